//! Whether the model's folder is whole: names and sizes only, since root parses no model file.

use std::{fs, io, path::Path};

use tandem_policy::Artifacts;

/// Most files of a model folder that are looked at; the largest checkpoints have some hundreds.
const FILES_MAX: usize = 10_000;

/// Endings of files that a download has not finished.
const UNFINISHED: [&str; 4] = [".incomplete", ".part", ".partial", ".download"];

/// What is there.
pub(super) fn look(model_dir: &Path) -> Artifacts {
    match weights_bytes(model_dir) {
        Ok(Ok(weights_bytes)) => Artifacts::Complete { weights_bytes },
        Ok(Err(why)) => Artifacts::Incomplete(why),
        Err(error) => Artifacts::Incomplete(format!("{}: {error}", model_dir.display())),
    }
}

fn weights_bytes(model_dir: &Path) -> io::Result<Result<u64, String>> {
    let mut bytes = 0;
    let mut shards = Shards::default();
    let mut has_config = false;
    for entry in fs::read_dir(model_dir)?.take(FILES_MAX) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if UNFINISHED.iter().any(|ending| name.ends_with(ending)) {
            return Ok(Err(format!("{name} is not finished: a download still runs, or broke off")));
        }
        has_config |= name == "config.json";
        if let Some(stem) = name.strip_suffix(".safetensors") {
            // Followed if it is a link: download caches keep the real file elsewhere.
            let size = fs::metadata(entry.path())?.len();
            if size == 0 {
                return Ok(Err(format!("{name} is empty")));
            }
            bytes += size;
            shards.count(stem);
        }
    }
    let dir = model_dir.display();
    if !has_config {
        return Ok(Err(format!("there is no config.json in {dir}")));
    }
    if bytes == 0 {
        return Ok(Err(format!("there is no *.safetensors in {dir}")));
    }
    Ok(match shards.missing() {
        Some((have, of)) => Err(format!("{have} of {of} *.safetensors files are there")),
        None => Ok(bytes),
    })
}

/// Files named `NAME-00001-of-00003.safetensors`, as checkpoints in several files name them.
#[derive(Default)]
struct Shards {
    have: u32,
    of: u32,
}

impl Shards {
    fn count(&mut self, stem: &str) {
        let Some((rest, of)) = stem.rsplit_once("-of-") else { return };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let numbered = rest.rsplit_once('-').is_some_and(|(_, index)| is_number(index));
        if let (true, Ok(of)) = (numbered && is_number(of), of.parse()) {
            self.have += 1;
            self.of = self.of.max(of);
        }
    }

    fn missing(&self) -> Option<(u32, u32)> {
        (self.have < self.of).then_some((self.have, self.of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_whole_or_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let why = || match look(folder.path()) {
            Artifacts::Incomplete(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why().contains("config.json"));
        put("config.json", "{}");
        assert!(why().contains("no *.safetensors"));
        put("model-00001-of-00002.safetensors", "abc");
        assert!(why().contains("1 of 2"));
        put("model-00002-of-00002.safetensors", "");
        assert!(why().contains("empty"));
        put("model-00002-of-00002.safetensors", "de");
        assert_eq!(look(folder.path()), Artifacts::Complete { weights_bytes: 5 });
        put("tokenizer.json.incomplete", "");
        assert!(why().contains("not finished"));
        let gone = folder.path().join("gone");
        assert!(matches!(look(&gone), Artifacts::Incomplete(_)));
    }
}
