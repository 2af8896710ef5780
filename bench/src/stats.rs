//! Statistics of samples (pure).

/// The value that the share `p` (0 to 1) of the samples does not exceed, interpolated between
/// neighbours; `None` of nothing.
pub(crate) fn percentile(samples: &[f64], p: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = p.clamp(0.0, 1.0) * last as f64;
    let below = sorted.iter().enumerate().rfind(|(at, _)| *at as f64 <= place);
    let (at, low) = below?;
    let high = sorted.get(at + 1).unwrap_or(low);
    Some(low + (high - low) * (place - at as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_what_is_there() {
        let samples = [3.0, 1.0, 2.0, 4.0, 5.0];
        assert_eq!(percentile(&samples, 0.5), Some(3.0));
        assert_eq!(percentile(&samples, 0.0), Some(1.0));
        assert_eq!(percentile(&samples, 1.0), Some(5.0));
        assert_eq!(percentile(&samples, 0.95), Some(4.8));
        assert_eq!(percentile(&samples, 7.0), Some(5.0), "never beyond the largest");
    }

    #[test]
    fn of_one_and_of_none() {
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn an_even_number_has_its_middle_between_two() {
        assert_eq!(percentile(&[4.0, 1.0], 0.5), Some(2.5));
    }
}
