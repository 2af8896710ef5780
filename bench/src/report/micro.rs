//! What `cargo bench` printed, read (pure).

use std::collections::BTreeMap;

/// Medians of micro-benchmarks, in nanoseconds, by name; those with an argument as `name argument`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Micro(BTreeMap<String, f64>);

/// What divan draws its tree with.
const BRANCHES: [char; 5] = ['│', '├', '╰', '─', ' '];
/// Columns are: name and fastest, slowest, median, mean, samples, iterations.
const MEDIAN: usize = 2;

impl Micro {
    /// Reads divan's tables; all other lines are of no interest.
    pub(crate) fn read(text: &str) -> Self {
        let (mut medians, mut group) = (BTreeMap::new(), "");
        for line in text.lines().filter(|line| line.contains('─')) {
            let row = line.trim_start_matches(BRANCHES);
            let columns: Vec<_> = row.split('│').collect();
            let name = row.split(' ').next().unwrap_or_default();
            let nested = !line.starts_with(['├', '╰']);
            match columns.get(MEDIAN).copied().and_then(nanoseconds) {
                Some(median) if nested => medians.insert(format!("{group} {name}"), median),
                Some(median) => medians.insert(name.to_owned(), median),
                None => {
                    group = name;
                    None
                }
            };
        }
        Self(medians)
    }

    /// A median, in nanoseconds.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, median)| (name.as_str(), *median))
    }
}

fn nanoseconds(text: &str) -> Option<f64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let scale = match unit {
        "ps" => 1e-3,
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
Timer precision: 20 ns
protocol            fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ refuse_copy                    │               │               │               │         │
│  ├─ 1             878.4 ns      │ 903.7 ns      │ 888.7 ns      │ 889 ns        │ 100     │ 400
│  ╰─ 100000        878.4 ns      │ 901.2 ns      │ 884.8 ns      │ 885.4 ns      │ 100     │ 400
├─ seal_a_knock     87.43 µs      │ 185.9 µs      │ 88.26 µs      │ 91.54 µs      │ 100     │ 100
╰─ last_of_all                    │               │               │               │         │
   ╰─ 7             1 ms          │ 1 ms          │ 2 ms          │ 1 ms          │ 100     │ 100
";

    #[test]
    fn reads_medians_and_their_arguments() {
        let expected = [
            ("last_of_all 7", 2e6),
            ("refuse_copy 1", 888.7),
            ("refuse_copy 100000", 884.8),
            ("seal_a_knock", 88_260.0),
        ];
        assert_eq!(Micro::read(PRINTED).all().collect::<Vec<_>>(), expected);
        assert_eq!(Micro::read("error: bench failed"), Micro::default());
    }
}
