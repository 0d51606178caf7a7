//! The parsers of text, on recorded answers that were damaged, on lines of recorded answers in any
//! order, and on noise. Nothing may panic, an error stays short, and what is read must be in the
//! text: above all, a host is never called healthy without the words that say so.

#![allow(clippy::unwrap_used)]

mod fuzz {
    pub(crate) mod damage;
    pub(crate) mod evidence;
}

use std::cell::Cell;

use fuzz::{damage, evidence};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tandem_host::mac::{SEEN_BYTES_MAX, Unparsed};

/// Enough that every parser meets texts it takes and texts it refuses, which is asserted, and few
/// enough to run with every test.
const CASES: u32 = 2_000;

/// A runner that tries the same cases at every run.
fn runner() -> TestRunner {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Longest message of an error: what was seen, with every byte escaped, and the sentence about it.
const MESSAGE_BYTES_MAX: usize = SEEN_BYTES_MAX * 10 + 400;

fn check_error(error: &Unparsed) -> Result<(), TestCaseError> {
    let message = error.to_string();
    proptest::prop_assert!(message.len() <= MESSAGE_BYTES_MAX, "too long: {message}");
    proptest::prop_assert!(message.contains("run it by hand"), "no advice: {message}");
    Ok(())
}

#[test]
fn damaged_answers_are_refused_or_read_as_what_they_say() {
    for parser in evidence::PARSERS {
        let (taken, refused) = (Cell::new(0), Cell::new(0));
        let answers = damage::recorded(parser.fixtures);
        let outcome = runner().run(&damage::damaged(&answers), |text| {
            match (parser.check)(&text)? {
                Ok(()) => taken.update(|count| count + 1),
                Err(error) => {
                    refused.update(|count| count + 1);
                    check_error(&error)?;
                }
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{}: {}", parser.name, outcome.unwrap_err());
        let (taken, refused) = (taken.get(), refused.get());
        assert!(taken > 10 && refused > 10, "{}: {taken} taken, {refused} refused", parser.name);
    }
}

#[test]
fn recorded_lines_in_any_order_are_refused_or_read_as_what_they_say() {
    for parser in evidence::PARSERS {
        let answers = damage::recorded(parser.fixtures);
        let outcome = runner().run(&damage::shuffled(&answers), |text| {
            (parser.check)(&text)?.as_ref().err().map_or(Ok(()), check_error)
        });
        assert!(outcome.is_ok(), "{}: {}", parser.name, outcome.unwrap_err());
    }
}

#[test]
fn noise_is_refused() {
    for parser in evidence::PARSERS {
        let outcome = runner().run(&damage::noise(), |text| {
            match (parser.check)(&text)? {
                // A number alone is a version, and one digit is a preference.
                Ok(()) => proptest::prop_assert!(text.trim().len() <= 8, "taken: {text:?}"),
                Err(error) => check_error(&error)?,
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{}: {}", parser.name, outcome.unwrap_err());
    }
}
