//! What stands on disk after imports that end well, badly or not at all.

use std::fs::{self, File};

use tandem_engine::gguf::{self, ImportError};

use crate::file::{F16, Gguf, Q8_0, Sandbox};

#[test]
fn the_same_model_again_is_fine_and_another_one_is_refused() {
    let sandbox = Sandbox::new();
    let first = sandbox.import(&Gguf::tiny("llama", F16).bytes()).unwrap();
    assert!(!first.already_there);
    let again = sandbox.import(&Gguf::tiny("llama", F16).bytes()).unwrap();
    assert!(again.already_there && again.dir == first.dir);
    let config = fs::read(first.dir.join("config.json")).unwrap();
    let error = sandbox.import(&Gguf::tiny("llama", Q8_0).bytes()).unwrap_err();
    assert!(matches!(&error, ImportError::Exists { dir } if *dir == first.dir), "{error}");
    assert!(error.to_string().contains("--name"));
    assert_eq!(fs::read(first.dir.join("config.json")).unwrap(), config);
    assert_eq!(sandbox.left(), ["tiny"]);
    // One byte changed makes it another model.
    let weights = first.dir.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    assert!(sandbox.import(&Gguf::tiny("llama", F16).bytes()).is_err());
}

#[test]
fn a_file_in_the_place_of_the_folder_is_not_overwritten() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.models()).unwrap();
    fs::write(sandbox.models().join("tiny"), "notes").unwrap();
    assert!(sandbox.import(&Gguf::tiny("llama", F16).bytes()).is_err());
    assert_eq!(fs::read(sandbox.models().join("tiny")).unwrap(), b"notes");
    assert_eq!(sandbox.left(), ["tiny"]);
}

#[test]
fn leftovers_of_killed_imports_go_and_those_of_running_ones_stay() {
    let sandbox = Sandbox::new();
    let (dead, alive) = (".import-4242-0", ".import-4243-0");
    for name in [dead, alive] {
        let dir = sandbox.models().join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("model.safetensors"), "half").unwrap();
    }
    // A running import holds a lock on its folder, which ends with its process.
    let lock = File::open(sandbox.models().join(alive)).unwrap();
    lock.try_lock().unwrap();
    sandbox.import(&Gguf::tiny("llama", F16).bytes()).unwrap();
    assert_eq!(sandbox.left(), [alive, "tiny"]);
    drop(lock);
    sandbox.import(&Gguf::tiny("llama", F16).bytes()).unwrap();
    assert_eq!(sandbox.left(), ["tiny"]);
}

#[test]
fn names_are_checked_before_anything_is_done() {
    let sandbox = Sandbox::new();
    let file = sandbox.0.path().join("my model.gguf");
    fs::write(&file, Gguf::tiny("llama", F16).bytes()).unwrap();
    let import = |name: Option<&str>| gguf::import(&file, &sandbox.models(), name);
    let long = "x".repeat(129);
    for name in ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "ü", "a b", &long] {
        assert!(matches!(import(Some(name)), Err(ImportError::Name { .. })), "{name:?}");
    }
    let error = import(None).unwrap_err().to_string();
    assert!(error.contains("\"my model\"") && error.contains("--name"), "{error}");
    assert_eq!(sandbox.left(), [""; 0]);
    let imported = import(Some("My_model-1.5")).unwrap();
    assert!(imported.dir.ends_with("My_model-1.5"));
}

#[test]
fn what_cant_be_read_or_written_is_said() {
    let sandbox = Sandbox::new();
    let gone = gguf::import(&sandbox.0.path().join("gone.gguf"), &sandbox.models(), None);
    assert!(gone.unwrap_err().to_string().contains("can't read"));
    let folder = gguf::import(sandbox.0.path(), &sandbox.models(), Some("x"));
    assert!(folder.unwrap_err().to_string().contains("is not a file"));
    fs::write(sandbox.models(), "not a folder").unwrap();
    let error = sandbox.import(&Gguf::tiny("llama", F16).bytes()).unwrap_err();
    assert!(error.to_string().contains("can't write"), "{error}");
}
