//! Text-based stubs (`.tbd`, version 4): which symbols a library of the Mac has.
//!
//! The files are YAML, but always in one form: top-level keys, and under `exports` and `reexports` a list
//! of sections, each `targets` with symbols in brackets. Only that form is read. One file may hold
//! several documents: a library and those that it re-exports.

use std::collections::BTreeSet;

/// One file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stub {
    /// The path by which programs load the library.
    pub install_name: String,
    /// Symbols for arm64 (with arm64e, which has the same names), with the underscore of C.
    pub symbols: BTreeSet<String>,
    /// Install names of libraries that it re-exports.
    pub reexported: Vec<String>,
}

/// Reads a file's text; `None` if it is no stub.
#[must_use]
pub fn parse(text: &str) -> Option<Stub> {
    let mut stub = Stub::default();
    let mut section_is_ours = false;
    let mut lines = text.lines();
    if !lines.next()?.starts_with("--- !tapi-tbd") {
        return None;
    }
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.trim_start().trim_start_matches("- ").split_once(':') else {
            continue;
        };
        let mut value = value.trim().to_owned();
        // A list in brackets may go over several lines.
        while value.starts_with('[') && !value.ends_with(']') {
            value.push(' ');
            value.push_str(lines.next()?.trim());
        }
        let key = key.trim();
        match key {
            "install-name" if stub.install_name.is_empty() => {
                stub.install_name = unquoted(&value).to_owned();
            }
            "targets" => section_is_ours = list(&value).any(|it| it.starts_with("arm64")),
            "libraries" if section_is_ours => {
                stub.reexported.extend(list(&value).map(str::to_owned));
            }
            "symbols" | "weak-symbols" | "thread-local-symbols" if section_is_ours => {
                stub.symbols.extend(list(&value).map(str::to_owned));
            }
            "objc-classes" if section_is_ours => {
                for name in list(&value) {
                    stub.symbols.insert(format!("_OBJC_CLASS_$_{name}"));
                    stub.symbols.insert(format!("_OBJC_METACLASS_$_{name}"));
                }
            }
            _ => {}
        }
    }
    (!stub.install_name.is_empty()).then_some(stub)
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .trim_start_matches('[')
        .trim_end_matches(']')
        .split(',')
        .map(|it| unquoted(it.trim()))
        .filter(|it| !it.is_empty())
}

fn unquoted(value: &str) -> &str {
    value.trim_matches(|it| it == '\'' || it == '"')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "--- !tapi-tbd
tbd-version:     4
targets:         [ x86_64-macos, arm64e-macos ]
install-name:    '/usr/lib/libA.dylib'
reexported-libraries:
  - targets:         [ x86_64-macos, arm64e-macos ]
    libraries:       [ '/usr/lib/libB.dylib',
                       '/usr/lib/libC.dylib' ]
exports:
  - targets:         [ x86_64-macos ]
    symbols:         [ _only_intel ]
  - targets:         [ x86_64-macos,
                       arm64e-macos ]
    symbols:         [ _one, '_two$X',
                       _three ]
    objc-classes:    [ Thing ]
--- !tapi-tbd
tbd-version:     4
targets:         [ arm64-macos ]
install-name:    '/usr/lib/libB.dylib'
exports:
  - targets:         [ arm64-macos ]
    weak-symbols:    [ _four ]
...
";

    #[test]
    fn a_stub_tells_the_symbols_for_arm64_of_the_library_and_of_what_it_re_exports() {
        let stub = parse(TEXT).unwrap();
        assert_eq!(stub.install_name, "/usr/lib/libA.dylib");
        assert_eq!(stub.reexported, ["/usr/lib/libB.dylib", "/usr/lib/libC.dylib"]);
        let symbols: Vec<&str> = stub.symbols.iter().map(String::as_str).collect();
        assert_eq!(
            symbols,
            ["_OBJC_CLASS_$_Thing", "_OBJC_METACLASS_$_Thing", "_four", "_one", "_three", "_two$X"]
        );
    }

    #[test]
    fn what_is_no_stub_or_ends_within_a_list_is_not_taken_for_an_empty_one() {
        for text in ["", "install-name: a", &TEXT[..TEXT.len() - 210]] {
            let stub = parse(text);
            assert!(stub.as_ref().is_none_or(|it| !it.symbols.contains("_four")), "{stub:?}");
        }
        assert_eq!(
            parse("--- !tapi-tbd\ninstall-name: '/a'\nexports:\n  - targets: [ arm64-macos"),
            None
        );
    }
}
