//! Versions such as `26.2`, ordered by their numbers.

/// Most numbers in a version: macOS has three, and one is to spare.
const NUMBERS_MAX: usize = 4;

/// A version; numbers that are left out are 0, so that `26.2` is `26.2.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version([u32; NUMBERS_MAX]);

impl Version {
    /// Reads one to four decimal numbers with dots between; `None` if it is anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = [0; NUMBERS_MAX];
        let mut slots = numbers.iter_mut();
        for part in text.split('.') {
            // `parse` alone would take a sign.
            if !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            *slots.next()? = part.parse().ok()?;
        }
        Some(Self(numbers))
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::Version;

    #[test]
    fn versions_are_ordered_by_number_and_not_by_letter() {
        for (a, b, order) in [
            ("26.10", "26.2", Ordering::Greater),
            ("26.2", "26.2.0", Ordering::Equal),
            ("26.2", "26.2.1", Ordering::Less),
            ("9", "26", Ordering::Less),
            ("15.7.9", "26", Ordering::Less),
            ("26.2.0.1", "26.2", Ordering::Greater),
        ] {
            let (a, b) = (Version::parse(a).unwrap(), Version::parse(b).unwrap());
            assert_eq!(a.cmp(&b), order, "{a:?} {b:?}");
        }
    }

    #[test]
    fn anything_else_is_no_version() {
        for text in ["", ".", "26.", ".2", "26..2", "26.2 ", "+26", "26.-1", "26.2b", "1.2.3.4.5"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
        assert_eq!(Version::parse("4294967296"), None, "more than 32 bits");
    }
}
