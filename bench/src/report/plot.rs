//! Plots as SVG (pure).

use std::fmt::Write;

use super::table::short;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const COLOURS: [&str; 3] = ["#1b6ca8", "#c0392b", "#e08e0b"];

/// A picture with a white ground, so that it can be read anywhere.
struct Svg {
    text: String,
    height: f64,
}

impl Svg {
    fn new(title: &str, height: f64) -> Self {
        let mut svg = Self { text: String::new(), height };
        svg.words(12.0, 24.0, "start", title);
        svg
    }

    fn words(&mut self, x: f64, y: f64, anchor: &str, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        self.put(&format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{words}</text>"#));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let ((a, b), (c, d)) = (from, to);
        self.put(&format!(
            r#"<line x1="{a:.1}" y1="{b:.1}" x2="{c:.1}" y2="{d:.1}" stroke="{colour}"/>"#
        ));
    }

    fn put(&mut self, element: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{element}");
    }

    fn finish(self) -> String {
        let Self { text, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n{text}</svg>\n"
        )
    }
}

/// From the power of ten below the smallest to the one above the largest.
fn decades(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| *value > 0.0) {
        (low, high) = (low.min(value.log10().floor()), high.max(value.log10().ceil()));
    }
    (low <= high).then(|| (low, high.max(low + 1.0)))
}

/// Where a value is on a logarithmic axis.
fn place((low, high): (f64, f64), left: f64, value: f64) -> f64 {
    let share = (value.max(1e-9).log10() - low) / (high - low);
    left + share.clamp(0.0, 1.0) * (WIDTH - RIGHT - left)
}

fn axis(svg: &mut Svg, (low, high): (f64, f64), left: f64, unit: &str) {
    let bottom = svg.height - 28.0;
    let mut decade = low;
    while decade <= high {
        let x = place((low, high), left, 10_f64.powf(decade));
        svg.line((x, TOP - 6.0), (x, bottom), "#dddddd");
        let label = format!("{} {unit}", short(10_f64.powf(decade)));
        svg.words(x, bottom + 18.0, if decade == high { "end" } else { "middle" }, &label);
        decade += 1.0;
    }
}

/// One bar for each value, from the left of a logarithmic axis. Nothing of nothing.
pub(crate) fn bars(title: &str, unit: &str, values: &[(String, f64)]) -> Option<String> {
    const STEP: f64 = 24.0;
    let scale = decades(values.iter().map(|(_, value)| *value))?;
    let count = values.iter().fold(0.0, |count, _| count + 1.0);
    let mut svg = Svg::new(title, TOP + STEP * count + 40.0);
    axis(&mut svg, scale, LEFT, unit);
    let mut y = TOP;
    for (name, value) in values {
        let colour = COLOURS[usize::from(!name.starts_with("spa"))];
        let end = place(scale, LEFT, *value);
        svg.words(LEFT - 8.0, y + 13.0, "end", name);
        svg.put(&format!(
            r#"<rect x="{LEFT}" y="{y:.1}" width="{:.1}" height="16" fill="{colour}"/>"#,
            (end - LEFT).max(1.0)
        ));
        let (x, anchor) =
            if end > WIDTH - 100.0 { (end - 6.0, "end") } else { (end + 6.0, "start") };
        svg.words(x, y + 13.0, anchor, &format!("{} {unit}", short(*value)));
        y += STEP;
    }
    Some(svg.finish())
}

/// Which share of the tries took no longer than that, on a logarithmic axis.
pub(crate) fn distribution(title: &str, unit: &str, series: &[(String, &[f64])]) -> Option<String> {
    const SIDE: f64 = 60.0;
    const TALL: f64 = 220.0;
    let scale = decades(series.iter().flat_map(|(_, samples)| samples.iter().copied()))?;
    let mut svg = Svg::new(title, TOP + TALL + 60.0);
    axis(&mut svg, scale, SIDE, unit);
    let height = |share: f64| TOP + 28.0 + (TALL - 24.0) * (1.0 - share);
    for share in [0.0, 0.5, 1.0] {
        svg.line((SIDE, height(share)), (WIDTH - RIGHT, height(share)), "#dddddd");
        svg.words(SIDE - 8.0, height(share) + 4.0, "end", &format!("{:.0} %", share * 100.0));
    }
    let mut x = SIDE;
    for ((name, samples), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let all = sorted.len().max(1) as f64;
        let points = sorted.iter().enumerate().map(|(at, value)| {
            let share = (at + 1) as f64 / all;
            format!("{:.1},{:.1}", place(scale, SIDE, *value), height(share))
        });
        let points = points.collect::<Vec<_>>().join(" ");
        svg.put(&format!(
            r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>"#
        ));
        svg.put(&format!(r#"<rect x="{x}" y="{TOP}" width="12" height="12" fill="{colour}"/>"#));
        svg.words(x + 18.0, TOP + 11.0, "start", name);
        x += 200.0;
    }
    Some(svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_hold_all_values() {
        assert_eq!(decades([20.0, 1_500.0].into_iter()), Some((1.0, 4.0)));
        assert_eq!(decades([100.0].into_iter()), Some((2.0, 3.0)), "never empty");
        assert_eq!(decades([0.0].into_iter()), None);
    }

    #[test]
    fn a_longer_time_is_a_longer_bar() {
        let svg = bars("t", "µs", &[("spa".into(), 10.0), ("fwknop <x>".into(), 1_000.0)]).unwrap();
        let widths: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("height=\"16\""))
            .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap())
            .map(|width| width.parse().unwrap())
            .collect();
        assert!(widths[1] > widths[0], "{widths:?}");
        assert!(svg.contains("fwknop &lt;x>"), "{svg}");
    }

    #[test]
    fn a_distribution_ends_at_the_top() {
        let svg = distribution("t", "µs", &[("spa".into(), &[3.0, 1.0, 2.0])]).unwrap();
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 3);
        assert!(points.ends_with(",72.0"), "{points}");
        assert_eq!(distribution("t", "µs", &[]), None);
    }
}
