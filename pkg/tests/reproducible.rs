//! The same files make the same package, wherever and by whomever it is made.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tandem_pkg::product;

/// The same command, for which new files have other modes.
fn with_umask(umask: &str, pack: &Command) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")])
        .arg(pack.get_program())
        .args(pack.get_args())
        .current_dir(support::root())
        .env_remove("SOURCE_DATE_EPOCH");
    command
}

fn made(folder: &Path) -> PathBuf {
    folder.join("out").join(format!("tandem-{}-arm64.pkg", env!("CARGO_PKG_VERSION")))
}

#[test]
fn folder_umask_time_zone_locale_and_the_time_of_files_leave_no_trace() {
    let one = tempfile::tempdir().unwrap();
    let other = tempfile::Builder::new().prefix("an other folder ").tempdir().unwrap();
    let mut first = with_umask("022", &support::pack(one.path()));
    support::output(first.env("TZ", "UTC").env("LC_ALL", "C"));
    let mut second = with_umask("077", &support::pack(other.path()));
    let stand_in = fs::File::open(other.path().join("stand-ins/tandem")).unwrap();
    stand_in.set_modified(std::time::UNIX_EPOCH).unwrap();
    let locked = fs::Permissions::from_mode(0o400);
    fs::set_permissions(other.path().join("stand-ins/tandem"), locked).unwrap();
    second.env("TZ", "Asia/Kathmandu").env("LC_ALL", "tr_TR.UTF-8").env("USER", "somebody");
    support::output(&mut second);
    let packages = [one.path(), other.path()].map(|folder| fs::read(made(folder)).unwrap());
    assert!(packages[0] == packages[1], "the packages differ");
    for folder in [one.path(), other.path()] {
        assert_eq!(fs::metadata(made(folder)).unwrap().permissions().mode() & 0o777, 0o644);
        // Nothing is left beside it.
        assert_eq!(fs::read_dir(folder.join("out")).unwrap().count(), 1);
    }
}

#[test]
fn another_byte_or_another_time_makes_another_package() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    support::output(&mut support::pack(path));
    let first = fs::read(made(path)).unwrap();
    support::output(support::pack(path).env("SOURCE_DATE_EPOCH", "1709210096"));
    let dated = fs::read(made(path)).unwrap();
    assert!(first != dated, "SOURCE_DATE_EPOCH changed nothing");
    let mut command = support::pack(path);
    fs::write(path.join("stand-ins/tandem"), b"other").unwrap();
    support::output(&mut command);
    assert!(first != fs::read(made(path)).unwrap(), "another executable changed nothing");
}

#[test]
fn check_prints_what_pack_made_and_fails_on_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    support::output(support::pack(folder.path()).env("SOURCE_DATE_EPOCH", "1709210096"));
    let package = made(folder.path());
    let check = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-pkg"));
        command.arg("check").arg(&package).args(arguments);
        command
    };
    let report: Value = serde_json::from_slice(&support::output(&mut check(&["--json"]))).unwrap();
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    for row in report["payload"].as_array().unwrap() {
        assert_eq!(row["mtime_s"], 1_709_210_096, "{row}");
        assert_eq!((&row["uid"], &row["gid"]), (&Value::from(0), &Value::from(0)), "{row}");
    }
    let text = String::from_utf8(support::output(&mut check(&[]))).unwrap();
    assert!(text.contains(report["sha256"].as_str().unwrap()), "{text}");

    let mut damaged = fs::read(&package).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&package, damaged).unwrap();
    let output = check(&[]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("tandem.pkg/Scripts") && stderr.contains("damaged"), "{stderr}");
}

#[test]
fn a_package_that_can_not_be_made_leaves_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    support::output(&mut support::pack(folder.path()));
    let before = fs::read(made(folder.path())).unwrap();
    let mut command = support::pack(folder.path());
    fs::write(folder.path().join("stand-ins/mlx.metallib"), b"").unwrap();
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("mlx.metallib is empty"));
    assert!(before == fs::read(made(folder.path())).unwrap());
    assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 1);
}

#[test]
fn the_time_is_the_fixed_one_or_the_one_asked_for_and_never_a_guess() {
    assert_eq!(product::time_s(None).unwrap(), product::TIME_S);
    assert_eq!(product::time_s(Some("0".as_ref())).unwrap(), 0);
    assert_eq!(product::time_s(Some("4294967295".as_ref())).unwrap(), u32::MAX);
    for wrong in ["", "now", "-1", "1.5", " 1", "4294967296"] {
        assert!(product::time_s(Some(wrong.as_ref())).is_err(), "{wrong:?}");
    }
}
