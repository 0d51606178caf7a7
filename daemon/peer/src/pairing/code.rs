//! The one-time code that proves to each of two nodes that the other is the one meant.

use std::{fmt, str::FromStr};

/// Letters of a code: Crockford's base 32 (<https://www.crockford.com/base32.html>), which leaves
/// out I, L, O and U; when read, I and L count as 1 and O as 0.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Letters of a code: 40 bits. Each try takes a connection and five wrong ones end the offer, so
/// one who guesses succeeds once in 2 * 10^11 offers.
const LETTERS: usize = 8;

/// A one-time code, as typed or as made. It is never logged: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; LETTERS]);

/// Why what was typed is not a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code is {LETTERS} letters and digits, such as 7K2M-9QXD, without U")]
pub struct NotACode;

impl Code {
    /// A new code from the system's random numbers.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; LETTERS];
        getrandom::fill(&mut bytes)?;
        // 256 is a multiple of 32, so every letter is equally likely.
        Ok(Self(bytes.map(letter)))
    }

    /// The code as it is shown to the operator: `XXXX-XXXX`.
    pub fn shown(&self) -> String {
        let (first, second) = self.0.split_at(LETTERS / 2);
        format!("{}-{}", String::from_utf8_lossy(first), String::from_utf8_lossy(second))
    }

    /// What the key exchange takes as its password.
    pub(super) fn password(&self) -> &[u8] {
        &self.0
    }
}

fn letter(byte: u8) -> u8 {
    ALPHABET.get(usize::from(byte) % ALPHABET.len()).copied().unwrap_or(b'0')
}

impl FromStr for Code {
    type Err = NotACode;

    /// Case, dashes and spaces do not matter.
    fn from_str(typed: &str) -> Result<Self, NotACode> {
        let mut letters = [0; LETTERS];
        let mut count = 0;
        for byte in typed.bytes().filter(|byte| !matches!(byte, b'-' | b' ' | b'\t')) {
            let read = match byte.to_ascii_uppercase() {
                b'I' | b'L' => b'1',
                b'O' => b'0',
                other => other,
            };
            if !ALPHABET.contains(&read) {
                return Err(NotACode);
            }
            *letters.get_mut(count).ok_or(NotACode)? = read;
            count += 1;
        }
        if count == LETTERS { Ok(Self(letters)) } else { Err(NotACode) }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code: Code = "7K2M-9Q1D".parse().unwrap();
        for typed in ["7k2m9q1d", "7K2M 9QID", " 7k-2m-9q-ld ", "7K2M-9Q1D"] {
            assert_eq!(typed.parse::<Code>(), Ok(code.clone()), "{typed}");
        }
        assert_eq!("OOOO-0000".parse::<Code>(), "0000-0000".parse());
        for typed in ["", "7K2M-9Q1", "7K2M-9Q1D0", "7K2M-9Q1U", "7K2M_9Q1D", "7K2M-9Q1é"] {
            assert_eq!(typed.parse::<Code>(), Err(NotACode), "{typed}");
        }
    }

    #[test]
    fn a_new_code_is_shown_so_that_it_reads_back_and_is_never_in_a_debug_line() {
        let codes: Vec<Code> = (0..64).map(|_| Code::random().unwrap()).collect();
        for code in &codes {
            assert_eq!(code.shown().parse(), Ok(code.clone()));
            assert!(!format!("{code:?}").contains(&code.shown()));
        }
        assert!(codes.iter().skip(1).all(|code| Some(code) != codes.first()));
    }
}
