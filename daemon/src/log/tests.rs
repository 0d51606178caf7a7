use std::{
    fs,
    io::Write as _,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tracing::{debug, error, info, warn};

use super::{
    category::{Category, GATEWAY, RANK},
    rotated::{NAME, Rotated},
    *,
};

type Told = Arc<Mutex<Vec<String>>>;

fn logging(rotated: Rotated) -> (LogFile, Told) {
    let told = Told::default();
    let sink = Arc::clone(&told);
    let tell = move |text: &str| sink.lock().unwrap().push(text.to_owned());
    (LogFile::start(rotated, tell).unwrap(), told)
}

/// Names, sizes and texts of the files in a folder, by name.
fn files(folder: &Path) -> Vec<(String, u64, String)> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), text.len() as u64, text)
        })
        .collect();
    found.sort();
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn wait_until(condition: impl Fn() -> bool) {
    // Only to end a test that would hang: nothing is measured.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_flood_is_bounded_in_files_and_bytes_and_its_newest_lines_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("deep/logs");
    let (file, told) = logging(Rotated::new(&logs, 64 << 10, 3));
    let oldest = &logs.join("tandem.log.2");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut writer = file.writer();
            scope.spawn(move || {
                // Most are lost at this speed, so until there are as many files as there may be, and on.
                let line = format!("a line of thread {thread} {}\n", "x".repeat(40));
                wait_until(|| {
                    for _ in 0..2_000 {
                        writer.clone().write_all(line.as_bytes()).unwrap();
                    }
                    oldest.exists()
                });
                for _ in 0..5_000 {
                    writer.write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
    // What was lost on the way is told once all is written that was not.
    wait_until(|| {
        drop(file.writer().write_all(b"the last line\n"));
        fs::read_to_string(logs.join(NAME)).is_ok_and(|text| text.ends_with("the last line\n"))
    });
    drop(file);
    let found = files(&logs);
    let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, [NAME, "tandem.log.1", "tandem.log.2"]);
    for (name, size, text) in &found {
        assert!((1..=64 << 10).contains(size), "{name}: {size}");
        assert!(text.ends_with('\n') && text.lines().all(|line| line.contains("line")), "{name}");
        assert_eq!(mode(&logs.join(name)), 0o640, "{name}");
    }
    assert_eq!(mode(&logs), 0o750);
    let told = told.lock().unwrap();
    assert!(told.len() <= 1 && told.iter().all(|text| text.contains("came faster")), "{told:?}");
}

#[test]
fn rotation_makes_each_file_one_older_and_a_smaller_number_removes_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Rotated::new(folder.path(), 10, 4);
    for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "seven\n", "eight\n"] {
        log.write(line.as_bytes()).unwrap();
    }
    let texts: Vec<_> = files(folder.path()).into_iter().map(|(.., text)| text).collect();
    assert_eq!(texts, ["eight\n", "seven\n", "five\nsix\n", "four\n"]);
    // As a person may leave it: an old one packed beside itself, one missing, another's file.
    fs::write(folder.path().join("tandem.log.1.gz"), "packed").unwrap();
    fs::remove_file(folder.path().join("tandem.log.2")).unwrap();
    log.write(b"nine more\n").unwrap();
    let names = || files(folder.path()).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    let expected = [NAME, "tandem.log.1", "tandem.log.1.gz", "tandem.log.2", "tandem.log.3"];
    assert_eq!(names(), expected);
    let mut log = Rotated::new(folder.path(), 10, 1);
    log.trim(100);
    log.write(b"ten\n").unwrap();
    assert_eq!(names(), [NAME, "tandem.log.1.gz"]);
    assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), "ten\n");
}

#[test]
fn a_file_or_folder_that_is_removed_or_renamed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let mut log = Rotated::new(&logs, 1 << 20, 3);
    let text = || fs::read_to_string(logs.join(NAME)).unwrap();
    log.write(b"one\n").unwrap();
    fs::remove_dir_all(&logs).unwrap();
    log.write(b"two\n").unwrap();
    assert_eq!(text(), "two\n");
    fs::rename(logs.join(NAME), logs.join("taken")).unwrap();
    log.write(b"three\n").unwrap();
    assert_eq!(text(), "three\n");
    fs::remove_file(logs.join(NAME)).unwrap();
    log.write(b"four\n").unwrap();
    assert_eq!(text(), "four\n");
    // The next supervisor goes on where this one was, whatever the mode was made.
    fs::set_permissions(logs.join(NAME), fs::Permissions::from_mode(0o666)).unwrap();
    Rotated::new(&logs, 1 << 20, 3).write(b"five\n").unwrap();
    assert_eq!((text().as_str(), mode(&logs.join(NAME))), ("four\nfive\n", 0o640));
}

#[test]
fn what_is_no_file_is_not_written_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["link", "fifo", "folder"] {
        fs::create_dir(at(name)).unwrap();
    }
    symlink("/dev/null", at("link").join(NAME)).unwrap();
    let rwx = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&at("fifo").join(NAME), rwx).unwrap();
    fs::create_dir(at("folder").join(NAME)).unwrap();
    fs::write(at("file"), "").unwrap();
    for name in ["link", "fifo", "folder", "file"] {
        assert!(Rotated::new(&at(name), 100, 2).write(b"x\n").is_err(), "{name}");
    }
    assert!(fs::symlink_metadata(at("fifo").join(NAME)).unwrap().file_type().is_fifo());
    // An older one that can't be replaced: nothing is written over the limit.
    let mut log = Rotated::new(&at("stuck"), 10, 2);
    log.write(b"123456\n").unwrap();
    fs::create_dir_all(at("stuck").join("tandem.log.1/full")).unwrap();
    assert!(log.write(b"123456\n").is_err());
    assert_eq!(fs::read_to_string(at("stuck").join(NAME)).unwrap(), "123456\n");
}

#[test]
fn a_folder_that_can_not_be_written_is_told_once_and_used_once_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    fs::write(&logs, "a file in its place").unwrap();
    let (file, told) = logging(Rotated::new(&logs, 1 << 20, 3));
    for number in 0..500 {
        file.writer().write_all(format!("line {number}\n").as_bytes()).unwrap();
    }
    wait_until(|| !told.lock().unwrap().is_empty());
    drop(file.writer().write_all(b"still nobody waits\n"));
    fs::remove_file(&logs).unwrap();
    wait_until(|| {
        drop(file.writer().write_all(b"again\n"));
        told.lock().unwrap().len() > 1
    });
    drop(file);
    let told = told.lock().unwrap();
    assert!(told[0].contains("can't be written") && told[0].contains("tandem.log"), "{told:?}");
    assert!(told.len() == 2 && told[1].contains("lines are missing there"), "{told:?}");
    assert!(fs::read_to_string(logs.join(NAME)).unwrap().ends_with("again\n"));
}

#[test]
fn the_end_waits_for_the_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = logging(Rotated::new(folder.path(), 1 << 20, 3));
    let mut writer = file.writer();
    for number in 0..900 {
        writer.write_all(format!("line {number}\n").as_bytes()).unwrap();
    }
    drop(file);
    let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
    assert_eq!((text.lines().count(), text.lines().last()), (900, Some("line 899")));
}

#[test]
fn lines_have_their_level_in_either_form_and_a_long_one_is_cut() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = logging(Rotated::new(folder.path(), 1 << 20, 3));
        let log = tracing_subscriber::registry()
            .with(EnvFilter::new("info"))
            .with(filter_fn(|metadata| metadata.is_event()))
            .with(lines(format, file.writer(), false));
        tracing::subscriber::with_default(log, || {
            let _span = tracing::info_span!("a library's span", secret = 1).entered();
            warn!(role = "test", "one");
            debug!("left out");
            error!(target: RANK, rank = 0, "two");
            info!("{}", "z".repeat(100_000));
        });
        drop(file);
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{format:?}");
        assert!(lines[0].contains("WARN") && lines[0].contains("one"), "{}", lines[0]);
        assert!(lines[1].contains("ERROR") && lines[1].contains("two"), "{}", lines[1]);
        assert!((60_000..=64 << 10).contains(&lines[2].len()));
        assert!(!text.contains("secret") && !text.contains("left out"), "{format:?}");
        if format == LogFormat::Json {
            let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
            assert_eq!((&line["level"], &line["role"]), (&"WARN".into(), &"test".into()));
        }
    }
}

#[test]
fn a_category_is_who_said_it() {
    let of = |target| Category::of(target).name();
    assert_eq!([of(GATEWAY), of(RANK)], ["gateway", "rank"]);
    assert_eq!(of(module_path!()), "supervisor");
    assert_eq!(Category::ALL.map(Category::name), ["supervisor", "gateway", "rank"]);
    for target in [GATEWAY, RANK] {
        assert!(target.starts_with("tandem::"), "RUST_LOG=tandem=debug means the children too");
    }
}
