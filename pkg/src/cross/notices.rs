//! The licences of all that others wrote in the product: most ask that their text goes with every copy.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::metadata::{Metadata, Package};
use super::{Options, Tools};
use crate::payload::read;

/// How the names of files begin that hold a licence or what it asks to be passed on, in small letters.
const BEGINNINGS: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// Most bytes of one of them.
const TEXT_MAX_BYTES: u64 = 1 << 20;

/// A part of the product, with its licences.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    /// Name, version and licence in one line.
    name: String,
    /// The texts that come with it; none if it brings none.
    texts: Vec<String>,
}

/// Writes them into one file of the target folder and returns it.
///
/// # Errors
/// A licence can't be read, or that of MLX is not there.
pub(super) fn write(
    tools: &Tools,
    options: &Options,
    metadata: &Metadata,
    mlx_c: &Path,
) -> anyhow::Result<PathBuf> {
    let mut parts = vec![
        part("MLX", &mlx_licenses(options)?)?,
        part("MLX C", mlx_c)?,
        part("The Rust standard library (MIT OR Apache-2.0)", &tools.std_licenses()?)?,
    ];
    for part in &parts {
        ensure!(!part.texts.is_empty(), "{}: there is no text of a licence", part.name);
    }
    for package in metadata.linked("tandem")? {
        if package.source.is_some() {
            parts.push(part(&heading(package), package.folder())?);
        }
    }
    let file = options.out.join("licenses.txt");
    fs::write(&file, text(&parts)).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

/// Where MLX's wheel brings its licence.
fn mlx_licenses(options: &Options) -> anyhow::Result<PathBuf> {
    let mlx = options.mlx();
    let wheel = mlx.parent().context("MLX's wheel lies in no folder")?;
    let inside = fs::read_dir(wheel).with_context(|| format!("no {}", wheel.display()))?;
    for entry in inside {
        let folder = entry?.path().join("licenses");
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    anyhow::bail!("{} holds no licence of MLX; ./install.sh package brings it", wheel.display())
}

fn heading(package: &Package) -> String {
    let license = package.license.as_deref().unwrap_or("licence in its text");
    let mut heading = format!("{} {} ({license})", package.name, package.version);
    if !package.authors.is_empty() {
        let _ = write!(heading, ", by {}", package.authors.join(", "));
    }
    heading
}

/// A part whose licences lie in this folder, in order of their names.
fn part(name: &str, folder: &Path) -> anyhow::Result<Part> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
            files.push(path);
        }
    }
    files.sort();
    let text = |path: &PathBuf| {
        let bytes = read(path, TEXT_MAX_BYTES)?;
        // What ends a line and what is left at its end say nothing.
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        anyhow::Ok(lines.join("\n").trim_matches('\n').to_owned())
    };
    Ok(Part { name: name.to_owned(), texts: files.iter().map(text).collect::<Result<_, _>>()? })
}

/// All in one: what there is, then each text once, with the parts that it is of.
fn text(parts: &[Part]) -> String {
    let mut order = Vec::new();
    let mut of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for part in parts {
        for text in &part.texts {
            let names = of.entry(text).or_insert_with(|| {
                order.push(text.as_str());
                Vec::new()
            });
            names.push(&part.name);
        }
    }
    let mut all = String::from("Tandem contains, or brings beside it, what others wrote:\n\n");
    for part in parts {
        let note = if part.texts.is_empty() { "; it brings no text of its licence" } else { "" };
        let _ = writeln!(all, "  {}{note}", part.name);
    }
    all.push_str("\nTheir licences follow, each once.\n");
    for text in order {
        let _ = write!(all, "\n{}\nOf:\n", "=".repeat(78));
        for name in of.get(text).into_iter().flatten() {
            let _ = writeln!(all, "  {name}");
        }
        let _ = writeln!(all, "\n{text}");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cross::metadata::Metadata;

    fn of(name: &str, texts: &[&str]) -> Part {
        Part { name: name.into(), texts: texts.iter().map(|it| (*it).to_owned()).collect() }
    }

    #[test]
    fn a_text_of_several_is_there_once_and_names_them_all() {
        let all =
            text(&[of("a 1 (MIT)", &["M", "A"]), of("b 2 (Apache-2.0)", &["A"]), of("c 3", &[])]);
        let rule = "=".repeat(78);
        assert!(all.contains("  c 3; it brings no text of its licence\n"), "{all}");
        let texts: Vec<&str> = all.split(&format!("\n{rule}\n")).skip(1).collect();
        assert_eq!(
            texts,
            ["Of:\n  a 1 (MIT)\n\nM\n", "Of:\n  a 1 (MIT)\n  b 2 (Apache-2.0)\n\nA\n"]
        );
    }

    #[test]
    fn licences_are_found_by_their_names_and_ends_of_lines_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("LICENSE-MIT", "one \r\ntwo\r\n\r\n"),
            ("Copying.md", "three\n"),
            ("README.md", "four\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::create_dir(folder.path().join("LICENSES")).unwrap();
        let found = part("p", folder.path()).unwrap();
        assert_eq!(found, of("p", &["three", "one\ntwo"]));
        fs::write(folder.path().join("NOTICE"), "").unwrap();
        assert!(part("p", folder.path()).unwrap_err().to_string().contains("empty"));
    }

    /// The crates of this workspace as they are: most that are linked bring their licence.
    #[test]
    fn the_products_own_crates_bring_their_licences() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let options = Options::in_checkout(&root).unwrap();
        let tools = Tools::OnMac(crate::cross::OnMac { sdk: "/".into(), bindgen: "/".into() });
        let metadata = Metadata::read(&tools, &options).unwrap();
        let linked = metadata.linked("tandem").unwrap();
        let is_there = |name: &str| linked.iter().any(|package| package.name == name);
        assert!(is_there("tokio") && is_there("rustls") && is_there("mlx-sys"));
        assert!(!is_there("proptest") && !is_there("syn") && !is_there("apple-bom"));
        let mut without = Vec::new();
        for package in linked.iter().filter(|package| package.source.is_some()) {
            assert!(package.license.is_some(), "{}", package.name);
            if part("", package.folder()).unwrap().texts.is_empty() {
                without.push(package.name.as_str());
            }
        }
        // Those that were looked at: what they may be used under is MIT or Apache-2.0, whose texts others bring.
        assert_eq!(without, ["mlx-rs", "mlx-sys", "objc2-core-foundation", "objc2-io-kit"]);
    }
}
