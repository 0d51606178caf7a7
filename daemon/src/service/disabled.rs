//! Which jobs are not to be loaded: `/bin/launchctl print-disabled system`.
//!
//! ```text
//! disabled services = {
//!     "com.example.one" => disabled
//!     "com.example.two" => enabled
//! }
//! ```
//!
//! macOS 12 and earlier print `true` and `false` for the same two. A job that is in no line is as its
//! property list says. The answer is for people and may change, so what is not known is unknown.

/// What is said of a label: `Some(None)` if nothing is, `None` if the answer can't be read.
#[allow(clippy::option_option, reason = "the two are different: not listed is an answer")]
pub(super) fn parse(text: &str, label: &str) -> Option<Option<bool>> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| *line == "disabled services = {")?;
    let mut found = None;
    for line in lines {
        if line == "}" {
            return Some(found);
        }
        let Some((name, value)) = line.split_once(" => ") else { continue };
        if name.trim_matches('"') == label {
            found = Some(match value {
                "disabled" | "true" => true,
                "enabled" | "false" => false,
                _ => return None,
            });
        }
    }
    // It has no end, so the line may be in what is missing.
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_disabled_enabled_not_listed_or_unreadable() {
        let whole = |line: &str| {
            format!(
                "\ndisabled services = {{\n\t\t\"a.b\" => disabled\n{line}}}\nlogin items = {{\n}}\n"
            )
        };
        for (text, expected) in [
            (whole("\t\t\"io.x\" => disabled\n"), Some(Some(true))),
            (whole("\t\t\"io.x\" => enabled\n"), Some(Some(false))),
            (whole("\t\"io.x\" => true\n"), Some(Some(true))),
            (whole("\t\"io.x\" => false\n"), Some(Some(false))),
            (whole("\t\t\"io.x.y\" => disabled\n"), Some(None)),
            (whole("\t\t\"io.x\" => perhaps\n"), None),
            ("disabled services = {\n\t\t\"io.x\" => enabled\n".into(), None),
            ("".into(), None),
            ("Could not print\n".into(), None),
        ] {
            assert_eq!(parse(&text, "io.x"), expected, "{text}");
        }
    }
}
