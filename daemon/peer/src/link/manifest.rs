//! The model's files, and where two nodes' differ.

use std::{cmp::Ordering, fmt};

use super::message::{self, Message};
use crate::manifest::{FILES_MAX, Manifest};

/// Most differences that are told, with one more line for the others.
pub const DIFFERENCES_MAX: usize = 20;

impl Manifest {
    /// The list as it is told; without files where it is too long.
    pub(super) fn message(&self) -> Message {
        let files = (self.entries().len() <= FILES_MAX).then(|| self.entries().to_vec());
        let whole = Message::Manifest { files };
        match message::encode(&whole) {
            Ok(_) => whole,
            Err(_) => Message::Manifest { files: None },
        }
    }

    /// Where other files differ, one a line. At most [`DIFFERENCES_MAX`], and how many more. `places` are
    /// the words for where these are, and where the others.
    pub fn differences(&self, other: &Self, places: [&str; 2]) -> Vec<String> {
        let [near, far] = places;
        let mut lines = Vec::new();
        let mut count = 0_usize;
        let mut found = |line: &dyn Fn() -> String| {
            count += 1;
            if count <= DIFFERENCES_MAX {
                lines.push(message::cut(&line()));
            }
        };
        let (mut own, mut theirs) = (self.entries().iter(), other.entries().iter());
        let (mut here, mut there) = (own.next(), theirs.next());
        loop {
            let order = match (here, there) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(here), Some(there)) => here.path.cmp(&there.path),
            };
            match (order, here, there) {
                (Ordering::Less, Some(entry), _) => {
                    found(&|| format!("{}: only {near}", entry.path))
                }
                (Ordering::Greater, _, Some(entry)) => {
                    found(&|| format!("{}: only {far}", entry.path));
                }
                (_, Some(here), Some(there)) if here.size_bytes != there.size_bytes => {
                    found(&|| {
                        let (path, size) = (&here.path, here.size_bytes);
                        format!("{path}: {size} bytes {near}, {} {far}", there.size_bytes)
                    })
                }
                (_, Some(here), Some(there)) if here.blake3 != there.blake3 => {
                    found(&|| format!("{}: the same size, other content {far}", here.path));
                }
                _ => {}
            }
            if order != Ordering::Greater {
                here = own.next();
            }
            if order != Ordering::Less {
                there = theirs.next();
            }
        }
        if count > DIFFERENCES_MAX {
            lines.push(format!("and {} more", count - DIFFERENCES_MAX));
        }
        lines
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.entries().len();
        f.debug_struct("Manifest").field("files", &files).field("digest", &self.digest()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ManifestEntry;

    fn manifest(rows: &[(&str, u64, &str)]) -> Manifest {
        let entry = |(path, size_bytes, blake3): &(&str, u64, &str)| ManifestEntry {
            path: (*path).into(),
            size_bytes: *size_bytes,
            blake3: (*blake3).into(),
        };
        Manifest::of(rows.iter().map(entry).collect())
    }

    #[test]
    fn each_difference_is_told_file_by_file() {
        let here = manifest(&[("a", 1, "x"), ("b", 1, "x"), ("c", 1, "x"), ("e", 1, "x")]);
        let there = manifest(&[("b", 1, "x"), ("c", 2, "x"), ("d", 1, "x"), ("e", 1, "y")]);
        assert_eq!(
            here.differences(&there, ["here", "on other"]),
            [
                "a: only here",
                "c: 1 bytes here, 2 on other",
                "d: only on other",
                "e: the same size, other content on other",
            ]
        );
        assert!(here.differences(&here, ["here", "on other"]).is_empty());
    }

    #[test]
    fn only_the_first_differences_are_told_and_the_rest_is_counted() {
        let rows: Vec<_> = (0..50).map(|n| format!("{n:02}")).collect();
        let rows: Vec<_> = rows.iter().map(|path| (path.as_str(), 1, "x")).collect();
        let lines = manifest(&rows).differences(&manifest(&[]), ["here", "on other"]);
        assert_eq!(lines.len(), DIFFERENCES_MAX + 1);
        assert_eq!(lines.last().unwrap(), "and 30 more");
    }

    #[test]
    fn the_digest_is_of_the_list_and_not_of_its_order() {
        let rows = [("a", 1, "x"), ("b", 1, "x")];
        let mut turned = rows;
        turned.reverse();
        assert_eq!(manifest(&rows).digest(), manifest(&turned).digest());
        for other in [[("a", 1, "x"), ("b", 2, "x")], [("a", 1, "x"), ("b", 1, "y")]] {
            assert_ne!(manifest(&rows).digest(), manifest(&other).digest());
        }
        assert_ne!(manifest(&[("ab", 1, "x")]).digest(), manifest(&[("a", 1, "bx")]).digest());
    }

    #[test]
    fn a_list_that_is_too_long_is_not_told() {
        let entry = |path: String| ManifestEntry { path, size_bytes: 1, blake3: String::new() };
        let rows = [
            ("short", (0..9).map(|n| entry(n.to_string())).collect(), true),
            ("many", (0..=FILES_MAX).map(|n| entry(n.to_string())).collect(), false),
            ("large", (0..9).map(|_| entry("x".repeat(200_000))).collect::<Vec<_>>(), false),
        ];
        for (what, entries, is_told) in rows {
            let Message::Manifest { files } = Manifest::of(entries).message() else { panic!() };
            assert_eq!(files.is_some(), is_told, "{what}");
        }
    }
}
