//! Ranges of user and group ids that the operator denies: `0,100-999`.

use std::fmt;

/// Ids, as the ranges they were written as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdRanges(Vec<(u32, u32)>);

/// One range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    low: u32,
    high: u32,
}

impl IdRange {
    /// Reads `low-high`.
    ///
    /// # Errors
    /// [`RangeError`].
    pub fn parse(text: &str) -> Result<IdRange, RangeError> {
        range(text).map(|(low, high)| IdRange { low, high })
    }

    /// Whether `id` lies in it.
    pub fn contains(&self, id: u32) -> bool {
        (self.low..=self.high).contains(&id)
    }

    /// All of them once, beginning with the one that `seed` picks.
    pub(crate) fn from(self, seed: u64) -> impl Iterator<Item = u32> {
        let count = u64::from(self.high - self.low) + 1;
        let at = move |step: u64| self.low + u32::try_from((seed % count + step) % count).unwrap_or(0);
        (0..count).map(at)
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

/// Why a text is no list of ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not a number below 2^32-1, or an empty element.
    #[error("range bound not valid")]
    Bound,
    /// The wrong way round.
    #[error("lower bound cannot be greater than upper bound")]
    Order,
}

impl IdRanges {
    /// Reads a comma list of ids and `low-high` ranges; an empty text is no range.
    ///
    /// # Errors
    /// [`RangeError`] for the first element that is wrong.
    pub fn parse(text: &str) -> Result<IdRanges, RangeError> {
        if text.is_empty() {
            return Ok(IdRanges::default());
        }
        text.split(',').map(range).collect::<Result<_, _>>().map(IdRanges)
    }

    /// Whether `id` lies in one of them.
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&id))
    }
}

fn range(element: &str) -> Result<(u32, u32), RangeError> {
    let element = element.trim();
    let (low, high) = element.split_once('-').unwrap_or((element, element));
    let (low, high) = (super::parse_id(low), super::parse_id(high));
    match (low, high) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        (Some(_), Some(_)) => Err(RangeError::Order),
        _ => Err(RangeError::Bound),
    }
}

impl fmt::Display for IdRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element =
            |(low, high): &(u32, u32)| if low == high { format!("{low}") } else { format!("{low}-{high}") };
        f.write_str(&self.0.iter().map(element).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: X47, X49
    #[test]
    fn x47_and_x49_ranges() {
        for text in ["1-100", "1-1", "1", "1-100,200-300", ""] {
            assert_eq!(IdRanges::parse(text).unwrap().to_string().is_empty(), text.is_empty());
        }
        assert_eq!(IdRanges::parse("100-1"), Err(RangeError::Order));
        assert_eq!(IdRanges::parse("10-1"), Err(RangeError::Order));
        for text in [
            "1-100,foo",
            "1-100,,200-300",
            "banana",
            "banana-10",
            "10-banana",
            "-1",
            "1-",
            "+1",
            "4294967295",
        ] {
            assert_eq!(IdRanges::parse(text), Err(RangeError::Bound), "{text}");
        }
    }

    #[test]
    fn bounds_belong_to_their_range() {
        let ranges = IdRanges::parse("5-7,9").unwrap();
        assert_eq!((4..=10).filter(|id| ranges.contains(*id)).collect::<Vec<_>>(), [5, 6, 7, 9]);
    }
}
