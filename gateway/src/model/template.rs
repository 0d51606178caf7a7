//! Where a model folder keeps its chat template.

use std::{fs, io::ErrorKind, path::Path};

use serde_json::{Map, Value};

use super::read_json;

/// A template as it stands in a file.
pub(super) struct Found {
    /// Relative to the folder.
    pub(super) file: String,
    pub(super) source: String,
}

/// Names of the one to take where there are several and none is called `default`, best first. The
/// others' names tell for what they are, and the rest can be chosen by nobody.
const USUAL: [&str; 3] = ["default", "chat", "tool_use"];

const OWN: &str = "chat_template.jinja";
const NAMED_DIR: &str = "additional_chat_templates";

/// The template for chats. A file of its own wins, as newer versions of `transformers` write it.
pub(super) fn find(dir: &Path, settings: &Map<String, Value>) -> Result<Option<Found>, String> {
    if let Some(source) = read_text(&dir.join(OWN))? {
        return Ok(Some(Found { file: OWN.into(), source }));
    }
    let json = "chat_template.json";
    let wrapped = read_json(&dir.join(json))?;
    let files = [(json, wrapped.as_ref()), ("tokenizer_config.json", Some(settings))];
    for (file, content) in files {
        let named = match content.and_then(|content| content.get("chat_template")) {
            Some(Value::String(source)) => {
                return Ok(Some(Found { file: file.into(), source: source.clone() }));
            }
            Some(Value::Array(all)) => {
                let one = |entry: &Value| {
                    let (name, source) = (entry["name"].as_str()?, entry["template"].as_str()?);
                    Some((name.to_owned(), source.to_owned()))
                };
                all.iter().filter_map(one).collect()
            }
            Some(Value::Object(map)) => {
                let one = |(name, source): (&String, &Value)| {
                    Some((name.clone(), source.as_str()?.to_owned()))
                };
                map.iter().filter_map(one).collect()
            }
            _ => Vec::new(),
        };
        if let Some((_, source)) = choose(&dir.join(file), named) {
            return Ok(Some(Found { file: file.into(), source }));
        }
    }
    let Some((name, source)) = choose(&dir.join(NAMED_DIR), named_files(&dir.join(NAMED_DIR))?)
    else {
        return Ok(None);
    };
    Ok(Some(Found { file: format!("{NAMED_DIR}/{name}.jinja"), source }))
}

/// One of several templates by name. That it was a choice is said.
fn choose(place: &Path, mut named: Vec<(String, String)>) -> Option<(String, String)> {
    let usual = USUAL.iter().find_map(|usual| named.iter().position(|(name, _)| name == usual));
    let index = usual.unwrap_or(0);
    let name = &named.get(index)?.0;
    if name != USUAL[0] {
        let place = place.display();
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        tracing::warn!(
            "{place} has no chat template called default; taking {name} of {names:?}. To choose \
             another, write it to {OWN}"
        );
    }
    Some(named.swap_remove(index))
}

/// Templates in files of their own, by name.
fn named_files(dir: &Path) -> Result<Vec<(String, String)>, String> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(format!("{}: {e}", dir.display())),
    };
    let mut named = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", dir.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(".jinja").map(str::to_owned) else {
            continue;
        };
        if let Some(source) = read_text(&path)? {
            named.push((name, source));
        }
    }
    named.sort();
    Ok(named)
}

/// A text file; `None` if there is no such file.
fn read_text(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}
