use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::build::build_settled;
use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn model() -> TempDir {
    folder(&[("config.json", "{}"), ("model.safetensors", "weights"), ("chat.jinja", "hi")])
}

fn built(dir: &Path, cache: &mut Cache) -> Result<Built, ManifestError> {
    build_settled(dir, Duration::ZERO, cache, |_| {})
}

fn fresh(dir: &Path) -> Manifest {
    built(dir, &mut Cache::default()).unwrap().manifest
}

fn paths(manifest: &Manifest) -> Vec<&str> {
    manifest.entries().iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn the_digest_is_blake3_over_the_canonical_lines() {
    let dir = folder(&[("b.json", ""), ("a.safetensors", "abc")]);
    let manifest = fresh(dir.path());
    // BLAKE3 of "abc" and of nothing, from the official test vectors.
    let abc = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    let lines = format!("a.safetensors\x003\0{abc}\nb.json\x000\0{empty}\n");
    assert_eq!(manifest.digest(), blake3::hash(lines.as_bytes()).to_hex().to_string());
    assert_eq!(manifest.entries()[0].blake3, abc);
}

#[test]
fn what_no_role_reads_is_no_difference() {
    let dir = model();
    let before = fresh(dir.path());
    assert_eq!(paths(&before), ["chat.jinja", "config.json", "model.safetensors"]);
    for noise in [
        "README.md",
        ".gitattributes",
        ".DS_Store",
        "._config.json",
        ".hidden.json",
        "model.safetensors.lock",
        "model.safetensors.metadata",
        "tokenizer.json.incomplete",
        "LICENSE.txt",
        "tokenizer.model",
    ] {
        fs::write(dir.path().join(noise), noise).unwrap();
    }
    for below in [".cache", "original", "folder.json"] {
        fs::create_dir(dir.path().join(below)).unwrap();
        fs::write(dir.path().join(below).join("config.json"), "other").unwrap();
    }
    let elsewhere = model();
    symlink(elsewhere.path(), dir.path().join("link.json")).unwrap();
    assert_eq!(fresh(dir.path()), before);
}

#[test]
fn two_folders_of_the_same_files_have_one_digest_and_any_difference_another() {
    type Change = fn(&Path);
    let digest = |change: Change| {
        let dir = model();
        change(dir.path());
        fresh(dir.path()).digest().to_owned()
    };
    let same = digest(|_| {});
    assert_eq!(digest(|_| {}), same);
    let changes: [(&str, Change); 5] = [
        ("content", |dir| fs::write(dir.join("model.safetensors"), "Weights").unwrap()),
        ("length", |dir| fs::write(dir.join("config.json"), "{} ").unwrap()),
        ("name", |dir| fs::rename(dir.join("chat.jinja"), dir.join("chap.jinja")).unwrap()),
        ("one more", |dir| fs::write(dir.join("tokenizer.json"), "").unwrap()),
        ("one less", |dir| fs::remove_file(dir.join("chat.jinja")).unwrap()),
    ];
    for (what, change) in changes {
        assert_ne!(digest(change), same, "{what}");
    }
}

#[test]
fn a_file_that_did_not_change_is_not_read_again() {
    let dir = model();
    let mut cache = Cache::default();
    let first = built(dir.path(), &mut cache).unwrap();
    assert_eq!(first.bytes_read, 11);
    assert_eq!(built(dir.path(), &mut cache).unwrap().bytes_read, 0);

    let saved = dir.path().join("manifest.saved");
    cache.save(&saved).unwrap();
    let mut cache = Cache::load(&saved).unwrap();
    fs::write(dir.path().join("config.json"), "{ }").unwrap();
    fs::remove_file(dir.path().join("chat.jinja")).unwrap();
    let second = built(dir.path(), &mut cache).unwrap();
    assert_eq!(second.bytes_read, 3);
    assert_eq!(second.manifest, fresh(dir.path()));
    assert_eq!(paths(&second.manifest), ["config.json", "model.safetensors"]);
}

#[test]
fn content_that_was_changed_under_the_same_size_and_time_is_noticed() {
    let dir = model();
    let path = dir.path().join("model.safetensors");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let set_time = || File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    set_time();
    let mut cache = Cache::default();
    let before = built(dir.path(), &mut cache).unwrap().manifest;
    // Longer than a tick of the file system's clock; `build` itself waits for that.
    std::thread::sleep(Duration::from_millis(50));
    fs::write(&path, "WEIGHTS").unwrap();
    set_time();
    assert_eq!(cache.manifest(&list(dir.path()).unwrap()), None);
    let after = built(dir.path(), &mut cache).unwrap();
    assert_eq!(after.bytes_read, 7);
    assert_ne!(after.manifest.digest(), before.digest());
}

#[test]
fn a_file_in_another_files_place_is_noticed() {
    let dir = model();
    let mut cache = Cache::default();
    built(dir.path(), &mut cache).unwrap();
    let (one, other) = (dir.path().join("model.safetensors"), dir.path().join("other"));
    fs::write(&other, "WEIGHTS").unwrap();
    fs::rename(&other, &one).unwrap();
    assert_eq!(cache.manifest(&list(dir.path()).unwrap()), None);
    assert_eq!(built(dir.path(), &mut cache).unwrap().bytes_read, 7);
}

#[test]
fn the_files_that_a_downloads_links_lead_to_are_read() {
    let plain = model();
    let (blobs, links) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["config.json", "model.safetensors", "chat.jinja"] {
        let blob = blobs.path().join(format!("blob-of-{name}"));
        fs::copy(plain.path().join(name), &blob).unwrap();
        symlink(&blob, links.path().join(name)).unwrap();
    }
    assert_eq!(fresh(links.path()), fresh(plain.path()));

    let mut cache = Cache::default();
    built(links.path(), &mut cache).unwrap();
    fs::write(blobs.path().join("blob-of-config.json"), "[]").unwrap();
    // As many bytes, perhaps in the same tick: the link now leads to another file besides.
    fs::copy(plain.path().join("config.json"), blobs.path().join("new")).unwrap();
    fs::remove_file(links.path().join("config.json")).unwrap();
    symlink(blobs.path().join("new"), links.path().join("config.json")).unwrap();
    assert_eq!(built(links.path(), &mut cache).unwrap().bytes_read, 2);
}

#[test]
fn what_can_not_be_a_models_file_is_refused_by_name_and_without_waiting() {
    let pipe = model();
    mkfifo(&pipe.path().join("tokenizer.json"), Mode::S_IRWXU).unwrap();
    let name = folder(&[("a\nb.json", "")]);
    let crowd = model();
    for n in 0..=FILES_MAX {
        File::create(crowd.path().join(format!("{n}.json"))).unwrap();
    }
    for (dir, named) in [(&pipe, "tokenizer.json"), (&name, r"a\nb.json"), (&crowd, "more than")] {
        match built(dir.path(), &mut Cache::default()) {
            Err(ManifestError::Refused(why)) => assert!(why.contains(named), "{why}"),
            other => panic!("{named}: {other:?}"),
        }
    }
    let dangling = model();
    symlink("nowhere", dangling.path().join("tokenizer.json")).unwrap();
    for dir in [dangling.path(), &dangling.path().join("gone")] {
        let error = built(dir, &mut Cache::default()).unwrap_err();
        assert!(matches!(error, ManifestError::Io { .. }), "{error}");
    }
}

#[test]
fn a_folder_that_changes_while_it_is_read_gives_no_manifest() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("a file grows", |dir| fs::write(dir.join("model.safetensors"), "weights+").unwrap()),
        ("one comes", |dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap()),
        ("one goes", |dir| fs::remove_file(dir.join("chat.jinja")).unwrap()),
        ("one becomes a pipe", |dir| {
            fs::remove_file(dir.join("config.json")).unwrap();
            mkfifo(&dir.join("config.json"), Mode::S_IRWXU).unwrap();
        }),
    ];
    for (what, change) in changes {
        let dir = model();
        let mut cache = Cache::default();
        let mut done = false;
        // After the first file, with the others under way or to come.
        let outcome = build_settled(dir.path(), Duration::ZERO, &mut cache, |_| {
            if !std::mem::replace(&mut done, true) {
                change(dir.path());
            }
        });
        // One that a reader did not find any more is an error of the system.
        let error = outcome.expect_err(what);
        assert!(!matches!(error, ManifestError::Refused(_)) || what.ends_with("pipe"), "{error}");
    }
}

#[test]
fn what_was_learned_before_a_failure_is_not_lost() {
    let dir = model();
    fs::write(dir.path().join("z.json"), "0123456789").unwrap();
    let mut cache = Cache::default();
    let mut seen = 0;
    let _ = build_settled(dir.path(), Duration::ZERO, &mut cache, |_| {
        seen += 1;
        fs::write(dir.path().join("late.json"), "{}").unwrap();
    });
    assert!(seen > 0);
    assert_eq!(cache.manifest(&list(dir.path()).unwrap()), None);
    assert_eq!(built(dir.path(), &mut cache).unwrap().bytes_read, 2, "late.json alone");
}

#[test]
fn a_saved_file_that_is_not_ours_is_refused() {
    let dir = model();
    let path = dir.path().join("saved");
    let mut cache = Cache::default();
    built(dir.path(), &mut cache).unwrap();
    cache.save(&path).unwrap();
    assert_eq!(Cache::load(&path).unwrap(), cache);
    let good = fs::read_to_string(&path).unwrap();
    assert_eq!(Cache::load(&dir.path().join("gone")).unwrap(), Cache::default());

    let hash = &cache.manifest(&list(dir.path()).unwrap()).unwrap().entries()[0].blake3.clone();
    for bad in [
        String::new(),
        good[..good.len() - 1].to_owned(),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"version\":1", "\"version\":1,\"more\":1"),
        good.replace(hash.as_str(), "short"),
        good.replace(hash.as_str(), &"G".repeat(64)),
        format!("{good}{}", " ".repeat(SAVED_BYTES_MAX as usize)),
    ] {
        fs::write(&path, bad).unwrap();
        assert!(Cache::load(&path).is_err());
    }
    fs::remove_file(&path).unwrap();
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    assert!(Cache::load(&path).is_err(), "a pipe is not waited for");
    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("target"), good).unwrap();
    symlink(dir.path().join("target"), &path).unwrap();
    assert!(Cache::load(&path).is_err(), "a link is not followed");
    cache.save(&path).unwrap();
    assert!(!fs::symlink_metadata(&path).unwrap().is_symlink(), "nor written through");
}
