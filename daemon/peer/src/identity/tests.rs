use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use super::*;

/// A folder that doesn't exist yet, in one that goes away.
fn place() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("peer");
    (root, folder)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_identity_is_made_once_and_then_read() {
    let (_root, folder) = place();
    let made = Identity::load_or_make(&folder, "a").unwrap();
    assert_eq!((mode(&folder), mode(&folder.join(KEY_FILE))), (0o700, 0o600));
    let read = Identity::load_or_make(&folder, "renamed").unwrap();
    assert_eq!(read.certificate(), made.certificate());
    assert_eq!(read.fingerprint(), Fingerprint::of(made.certificate()));
    let other = Identity::load_or_make(&folder.join("b"), "a").unwrap();
    assert_ne!(other.fingerprint(), made.fingerprint());
}

#[test]
fn many_that_make_it_at_once_get_the_same() {
    let (_root, folder) = place();
    let made: Vec<_> = (0..8)
        .map(|_| {
            let folder = folder.clone();
            std::thread::spawn(move || Identity::load_or_make(&folder, "a").unwrap().fingerprint())
        })
        .map(|thread| thread.join().unwrap())
        .collect();
    assert!(made.iter().all(|fingerprint| *fingerprint == made[0]));
}

#[test]
fn nothing_is_trusted_that_others_could_use() {
    type Spoil = fn(&Path);
    let rows: [(&str, Spoil); 5] = [
        ("the folder can be read by its group", |folder| {
            fs::set_permissions(folder, Permissions::from_mode(0o750)).unwrap();
        }),
        ("the key can be read by others", |folder| {
            fs::set_permissions(folder.join(KEY_FILE), Permissions::from_mode(0o604)).unwrap();
        }),
        ("the pins can be written by their group", |folder| {
            fs::set_permissions(folder.join("peers.json"), Permissions::from_mode(0o620)).unwrap();
        }),
        ("the key is a link", |folder| {
            fs::rename(folder.join(KEY_FILE), folder.join("elsewhere")).unwrap();
            symlink(folder.join("elsewhere"), folder.join(KEY_FILE)).unwrap();
        }),
        ("the key is a FIFO", |folder| {
            fs::remove_file(folder.join(KEY_FILE)).unwrap();
            nix::unistd::mkfifo(&folder.join(KEY_FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
    ];
    for (what, spoil) in rows {
        let (_root, folder) = place();
        let identity = Identity::load_or_make(&folder, "a").unwrap();
        Pins::pin(&folder, "b", identity.fingerprint()).unwrap();
        spoil(&folder);
        let refused = Identity::load_or_make(&folder, "a").is_err() || Pins::load(&folder).is_err();
        assert!(refused, "{what}");
    }
}

#[test]
fn a_key_of_another_user_is_refused() {
    if !nix::unistd::Uid::effective().is_root() {
        return; // Only root can give files away.
    }
    let (_root, folder) = place();
    Identity::load_or_make(&folder, "a").unwrap();
    std::os::unix::fs::chown(folder.join(KEY_FILE), Some(12_345), None).unwrap();
    let error = Identity::load_or_make(&folder, "a").unwrap_err();
    assert!(error.to_string().contains("12345"), "{error}");
}

#[test]
fn a_damaged_key_is_told_and_never_replaced() {
    let (_root, folder) = place();
    Identity::load_or_make(&folder, "a").unwrap();
    let (_other_root, other) = place();
    Identity::load_or_make(&other, "a").unwrap();
    let own = fs::read_to_string(folder.join(KEY_FILE)).unwrap();
    let foreign = fs::read_to_string(other.join(KEY_FILE)).unwrap();
    let certificate = |pem: &str| pem[pem.find("-----BEGIN CERTIFICATE").unwrap()..].to_owned();
    let rows = [
        ("empty", String::new()),
        ("cut", own[..own.len() / 2].to_owned()),
        ("another key's certificate", own.replace(&certificate(&own), &certificate(&foreign))),
        ("large", "x".repeat(100_000)),
    ];
    for (what, content) in rows {
        fs::write(folder.join(KEY_FILE), &content).unwrap();
        let result = Identity::load_or_make(&folder, "a");
        assert!(matches!(result, Err(IdentityError::Damaged { .. })), "{what}: {result:?}");
        assert_eq!(fs::read_to_string(folder.join(KEY_FILE)).unwrap(), content, "{what}");
    }
}

#[test]
fn pins_are_kept_replaced_and_forgotten() {
    let (_root, folder) = place();
    let [one, two] = ["one", "two"].map(|text| Fingerprint::of(text.as_bytes()));
    assert_eq!(Pins::load(&folder).unwrap(), Pins::default());
    assert!(!Pins::forget(&folder, "b").unwrap());
    Pins::pin(&folder, "b", one).unwrap();
    assert_eq!(mode(&folder.join("peers.json")), 0o600);
    assert_eq!(Pins::load(&folder).unwrap().get("b"), Some(one));
    Pins::pin(&folder, "b", two).unwrap();
    let pins = Pins::load(&folder).unwrap();
    assert_eq!(pins.iter().collect::<Vec<_>>(), [("b", two)]);
    assert_eq!(pins.node(two), Some("b"));
    assert!(matches!(Pins::pin(&folder, "c", two), Err(IdentityError::Taken { .. })));
    assert!(matches!(Pins::pin(&folder, "c\n", one), Err(IdentityError::Name(_))));
    assert!(Pins::forget(&folder, "b").unwrap());
    assert_eq!(Pins::load(&folder).unwrap(), Pins::default());
}

#[test]
fn pins_that_make_no_sense_pin_nobody() {
    let (_root, folder) = place();
    let pin = "00".repeat(32);
    let rows = [
        String::new(),
        "[]".into(),
        r#"{"v":2,"peers":{}}"#.into(),
        r#"{"v":1,"peers":{"a":"00"}}"#.into(),
        r#"{"v":1,"peers":{},"more":1}"#.into(),
        format!(r#"{{"v":1,"peers":{{"":"{pin}"}}}}"#),
        format!(r#"{{"v":1,"peers":{{"a":"{pin}","b":"{pin}"}}}}"#),
    ];
    Pins::pin(&folder, "a", Fingerprint::of(b"")).unwrap();
    for row in rows {
        fs::write(folder.join("peers.json"), &row).unwrap();
        assert!(matches!(Pins::load(&folder), Err(IdentityError::Damaged { .. })), "{row}");
    }
}

#[test]
fn no_more_pins_than_anyone_needs() {
    let (_root, folder) = place();
    for number in 0..PINS_MAX {
        let fingerprint = Fingerprint::of(&number.to_le_bytes());
        Pins::pin(&folder, &format!("n{number}"), fingerprint).unwrap();
    }
    let result = Pins::pin(&folder, "one-more", Fingerprint::of(b""));
    assert!(matches!(result, Err(IdentityError::Full)));
    assert_eq!(Pins::load(&folder).unwrap().iter().count(), PINS_MAX);
}

#[test]
fn a_fingerprint_is_read_as_it_is_shown() {
    let fingerprint = Fingerprint::of(b"certificate");
    let shown = fingerprint.to_string();
    assert_eq!(shown.split('-').count(), 16);
    assert_eq!(shown.parse::<Fingerprint>().unwrap(), fingerprint);
    assert_eq!(shown.to_uppercase().replace('-', ":").parse::<Fingerprint>().unwrap(), fingerprint);
    let json = serde_json::to_string(&fingerprint).unwrap();
    assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
    for wrong in ["", "00", &shown[1..], &format!("{shown}0"), &shown.replace('-', "x")] {
        assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
    }
}
