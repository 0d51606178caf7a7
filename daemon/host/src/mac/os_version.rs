//! The system's version: `sysctlbyname("kern.osproductversion")` ("26.5") and
//! `sysctlbyname("kern.osversion")`, the build ("25F80").
//!
//! Source: sysctl(3), and the values that Macs report.

use std::{fmt, str::FromStr};

use tandem_policy::invariant::Found;

use super::Unparsed;

const VERSION: &str = "sysctl kern.osproductversion";
const BUILD: &str = "sysctl kern.osversion";

/// Longest value that is read, in bytes: the longest seen have 7, and the kernel's buffer has 48.
const VALUE_BYTES_MAX: usize = 48;

/// A version, ordered by its numbers: 26.2 is before 26.10. Missing numbers are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl FromStr for Version {
    type Err = Unparsed;

    /// Reads one to three numbers with dots between; white space around them is dropped.
    fn from_str(text: &str) -> Result<Self, Unparsed> {
        Unparsed::bound(VERSION, text.len(), VALUE_BYTES_MAX)?;
        let wrong = || Unparsed::form(VERSION, "one to three numbers with dots", text);
        let mut numbers = [0; 3];
        let mut slots = numbers.iter_mut();
        for part in text.trim().split('.') {
            // `parse` would take a sign.
            if !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(wrong());
            }
            *slots.next().ok_or_else(wrong)? = part.parse().map_err(|_| wrong())?;
        }
        let [major, minor, patch] = numbers;
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch == 0 { Ok(()) } else { write!(f, ".{}", self.patch) }
    }
}

impl Version {
    /// For `OsVersion`: the version as text.
    pub fn os_version(&self) -> Found {
        Found::Text(self.to_string())
    }
}

/// A build, such as `25F80`; two are equal or not, and not ordered: a seed's is not after the
/// release's because its letters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build(String);

impl FromStr for Build {
    type Err = Unparsed;

    /// Reads digits, a capital letter, digits, and for a seed a small letter.
    fn from_str(text: &str) -> Result<Self, Unparsed> {
        Unparsed::bound(BUILD, text.len(), VALUE_BYTES_MAX)?;
        let build = text.trim();
        let rest = build.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = rest
            .strip_prefix(|c: char| c.is_ascii_uppercase())
            .filter(|_| rest.len() < build.len())
            .map(|number| number.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(number));
        match number {
            Some(number) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self(build.into()))
            }
            _ => Err(Unparsed::form(BUILD, "digits, a letter, digits", text)),
        }
    }
}

impl Build {
    /// As it was printed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
