//! The application firewall's rules: `/usr/libexec/ApplicationFirewall/socketfilterfw --listapps`.
//!
//! Source: the tool's own `--help` and answers of Macs: a line with the number of rules, then for
//! each a line with its number and its program's path, and one with what is done. The same tool's
//! `--getappblocked` is not asked: it says *permitted* of programs that have no rule.

use std::path::{Path, PathBuf};

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "socketfilterfw --listapps";

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose connections: an executable or an application's folder.
    pub program: PathBuf,
    /// Whether they are let in.
    pub is_allowed: bool,
}

/// Reads the whole list.
///
/// # Errors
/// No count, another count than there are rules, or a rule without its end.
pub fn parse(text: &str) -> Result<Vec<Rule>, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let heading = lines.next().unwrap_or_default();
    let count = heading
        .split_once(" = ")
        .filter(|(what, _)| what.to_ascii_lowercase().contains("total number of app"))
        .and_then(|(_, count)| count.parse().ok());
    let count: usize =
        count.ok_or_else(|| Unparsed::form(TOOL, "`ALF: total number of apps = N`", heading))?;
    let mut rules = Vec::new();
    while let Some(line) = lines.next() {
        let wrong = |wanted| Unparsed::form(TOOL, wanted, line);
        let (number, program) = line.split_once(':').ok_or_else(|| wrong("`NUMBER : PATH`"))?;
        let program = program.trim();
        if number.trim().parse() != Ok(rules.len() + 1) || !program.starts_with('/') {
            return Err(wrong("`NUMBER : PATH`, in order"));
        }
        let is_allowed = match lines.next() {
            Some("( Allow incoming connections )") => true,
            Some("( Block incoming connections )") => false,
            _ => return Err(wrong("`( Allow|Block incoming connections )` after")),
        };
        rules.push(Rule { program: program.into(), is_allowed });
    }
    if rules.len() == count {
        return Ok(rules);
    }
    Err(Unparsed::form(TOOL, "as many rules as are counted", heading))
}

/// For `FirewallOpen`, where the firewall has rules per application: what the rule of this program
/// says.
///
/// # Errors
/// It has none, or two that differ. Without one the system asks on the screen, where nobody may be.
pub fn firewall_open(rules: &[Rule], program: &Path) -> Result<Found, Unparsed> {
    let mut ours = rules.iter().filter(|rule| rule.program == program).map(|rule| rule.is_allowed);
    match ours.next() {
        Some(is_allowed) if ours.all(|other| other == is_allowed) => Ok(Found::Flag(is_allowed)),
        Some(_) => Err(Unparsed::Absent { tool: TOOL, what: "one rule for this executable" }),
        None => Err(Unparsed::Absent { tool: TOOL, what: "a rule for this executable" }),
    }
}
