//! Several runs of the same, and what they say together.

use serde::Serialize;

/// The middle one of several values, and how far the others are from it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, most })
    }

    /// How far the most is from the least, as a share of the median.
    pub fn width(&self) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        (self.most - self.least) / self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        let odd = Spread::of([5.0, 1.0, 3.0]).expect("a spread");
        assert_eq!((odd.median, odd.least, odd.most), (3.0, 1.0, 5.0));
        let even = Spread::of([4.0, 1.0, 3.0, 2.0]).expect("a spread");
        assert!((even.median - 2.5).abs() < 1e-12 && (even.width() - 1.2).abs() < 1e-12);
    }
}
