//! Why a text is no config, without any of its values: the supervisor shows it in its status, to whoever
//! asks, and what is wrong with a line may be next to a key or in one.

/// Longest line of a message, in characters.
const LINE_CHARS_MAX: usize = 1_000;

/// Longest name of a key that is told, in bytes; base64 and the like are longer.
const KEY_BYTES_MAX: usize = 40;

/// The line, the key that it begins with, and what is allowed there.
pub(super) fn in_words(text: &str, error: &toml::de::Error) -> String {
    let what = without_values(error.message());
    let Some(at) = error.span().map(|span| span.start.min(text.len())) else { return what };
    let before = text.as_bytes().iter().take(at);
    let number = 1 + before.filter(|byte| **byte == b'\n').count();
    match text.lines().nth(number - 1).and_then(key) {
        Some(key) => format!("line {number}, {key}: {what}"),
        None => format!("line {number}: {what}"),
    }
}

/// Whether a text is a key as configs have them.
fn is_key(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
    (1..=KEY_BYTES_MAX).contains(&text.len()) && text.chars().all(is_plain)
}

/// The key or the header that a line begins with; `None` if it begins with a part of a value.
fn key(line: &str) -> Option<&str> {
    let line = line.trim();
    let name = match line.split_once('=') {
        Some((name, _)) => name.trim(),
        None => line.split_once(']').filter(|(name, _)| name.starts_with('['))?.0,
    };
    let bare = name.trim_start_matches('[').trim();
    is_key(bare).then_some(bare)
}

/// The parser's message with each string that it found replaced. It quotes those in quotation marks, and
/// names of keys and choices in backticks.
fn without_values(message: &str) -> String {
    let mut told = String::new();
    let mut rest = message.trim_end();
    for (begins, is_value) in [("unknown variant `", true), ("unknown field `", false)] {
        let found = rest.strip_prefix(begins).and_then(|after| after.split_once('`'));
        if let Some((found, after)) = found
            && (is_value || !is_key(found))
        {
            told.push_str(begins.trim_end_matches([' ', '`']));
            rest = after;
        }
    }
    while let Some((before, quoted)) = rest.split_once('"') {
        told.push_str(before.strip_suffix("string ").unwrap_or(before));
        told.push_str("a string");
        rest = after_quote(quoted);
    }
    told.push_str(rest);
    let lines = told.lines().map(|line| line.chars().take(LINE_CHARS_MAX).collect::<String>());
    lines.collect::<Vec<_>>().join("; ")
}

/// What comes after the end of a string that Rust's `Debug` wrote.
fn after_quote(quoted: &str) -> &str {
    let mut is_escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return quoted.get(at + 1..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn no_value_of_a_config_is_in_what_is_wrong_with_it() {
        for text in [
            "[gateway]\napi_keys = [\"SECRET\"",
            "[gateway]\napi_keys = [\n  \"SECRET\",\n  \"SECRET\n]",
            "[gateway]\napi_keys = \"SECRET\"",
            "[gateway]\napi_keys = {\"SECRET\" = 1}",
            "[gateway]\napi_keys = [1, \"SECRET\"]",
            "[gateway]\napi_keys = [[\"SECRET\"]]",
            "[gateway]\napi_keys = SECRET",
            "[gateway]\nlisten = \"SECRET\"",
            "[gateway]\nmax_queued = \"SEC\\\"SECRET\"",
            "[gateway]\napi_keys = []\napi_keys = [\"SECRET\"]",
            "[gateway]\napi_key = [\"SECRET\"]",
            "[gateway]\napi_keys = [\"SECRET\"] trailing",
            "[gateway]\nsampling_defaults = \"SECRET\"",
            "[gateway]\nsampling_defaults = [\"SECRET\"]",
            "[gateway]\napi_keys = \"\"\"\nSECRET\n\"\"\" x",
            "[gateway]\n\"SECRET\" = 1",
            "\"SECRET\" = 1",
            "\"SECRET\"",
            "SECRET",
            "gateway = \"SECRET\"",
        ] {
            let text = text.replace("SECRET", "sk-S3CRET");
            let told = Config::parse(&text).unwrap_err();
            assert!(!told.contains("S3CRET"), "{text:?}: {told}");
            assert!(told.contains("line ") && told.len() > 10, "{text:?}: {told}");
        }
    }

    #[test]
    fn the_line_the_key_and_what_is_allowed_are_there() {
        for (text, parts) in [
            ("[node]\nname = \"a\"\nrundir = \"/tmp\"\n", &["line 3, rundir: ", "`run_dir`"][..]),
            ("[engine]\nmax_active = \"many\"\n", &["line 2, max_active: ", "a string", "u32"]),
            ("[engine]\nmax_active = -1\n", &["line 2, max_active: ", "-1"]),
            ("[engine]\nbackend = \"nccl\"\n", &["line 2, backend: ", "`jaccl`"]),
            ("[engin]\n", &["line 1, engin: ", "`engine`"]),
            ("nonsense", &["line 1: "]),
        ] {
            let told = Config::parse(text).unwrap_err();
            assert!(parts.iter().all(|part| told.contains(part)), "{text:?}: {told}");
        }
    }
}
