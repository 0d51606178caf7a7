//! What a tool said, or why that can't be used.

use tandem_policy::invariant::Unknown;

use super::{SEEN_BYTES_MAX, Unparsed, system::Runner};
use crate::probes::{Answer, CommandOutput, Tool};

/// An answer that a parser did not take.
pub(super) fn unparsed(error: Unparsed) -> Unknown {
    Unknown::Failed(error.to_string())
}

/// What a tool said, whatever its exit code, which some tools set at whim: only for an answer whose
/// every form is known, so that its parser refuses a complaint.
pub(super) fn text(runner: &impl Runner, tool: &Tool) -> Answer<String> {
    let CommandOutput { stdout, stderr, .. } = runner.run(tool)?;
    Ok(if stdout.trim().is_empty() { stderr } else { stdout })
}

/// The standard output of a tool that succeeded: for an answer that is a list, of which a part could
/// pass for the whole.
pub(super) fn whole(runner: &impl Runner, tool: &Tool) -> Answer<String> {
    let output = runner.run(tool)?;
    match complaint(&output) {
        None => Ok(output.stdout),
        Some(complaint) => Err(Unknown::Failed(format!("`{tool}` {complaint}"))),
    }
}

/// How a tool that did not succeed ended, and the start of what it said.
pub(super) fn complaint(output: &CommandOutput) -> Option<String> {
    let end = match output.code {
        Some(0) => return None,
        Some(code) => format!("ended with {code}"),
        None => "was ended by a signal".into(),
    };
    let said = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    let said = start(said);
    Some(if said.is_empty() { end } else { format!("{end}: {said}") })
}

/// The start of what was said, in one line.
pub(super) fn start(said: &str) -> String {
    let said = said.trim();
    let said = said.get(..said.floor_char_boundary(SEEN_BYTES_MAX)).unwrap_or_default();
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}
