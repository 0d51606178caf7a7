use super::*;

fn paths(payload: &Payload) -> Vec<&str> {
    payload.entries().iter().map(|entry| entry.path.as_str()).collect()
}

fn refusal(leaves: Vec<Entry>) -> String {
    format!("{:#}", Payload::new(leaves).unwrap_err())
}

#[test]
fn folders_come_before_what_is_in_them_and_names_in_the_order_of_their_bytes() {
    let leaves = ["/a/b-c/x", "/a/b/x", "/a/b.c"].map(|path| file(path, 0o644, vec![1]));
    let payload = Payload::new(leaves).unwrap();
    assert_eq!(paths(&payload), ["", "a", "a/b", "a/b/x", "a/b-c", "a/b-c/x", "a/b.c"]);
}

#[test]
fn folders_that_are_links_on_every_mac_are_named_by_where_they_lead() {
    for (given, put) in [
        ("/etc/newsyslog.d/t.conf", "private/etc/newsyslog.d/t.conf"),
        ("/var/log/x", "private/var/log/x"),
        ("/tmp/x", "private/tmp/x"),
        ("/usr/local/etc/x", "usr/local/etc/x"),
    ] {
        let payload = Payload::new([file(given, 0o644, vec![1])]).unwrap();
        assert_eq!(paths(&payload).last(), Some(&put));
    }
}

#[test]
fn a_hostile_name_does_not_get_in() {
    for path in [
        "usr/local/x",
        "",
        "/",
        "//x",
        "/usr//x",
        "/usr/./x",
        "/usr/../x",
        "/usr/local/",
        "/a b",
        "/a\nb",
        "/a\0",
        "/a\\b",
        "/TRAILER!!!",
        "/a\"b",
        "/<a>",
        "/$(reboot)",
        "/caf\u{e9}",
        &format!("/{}", "x".repeat(256)),
    ] {
        assert!(Payload::new([file(path, 0o644, vec![1])]).is_err(), "{path:?}");
    }
    assert!(Payload::new([file(&format!("/{}", "x".repeat(255)), 0o644, vec![1])]).is_ok());
}

#[test]
fn only_root_may_write_what_is_installed() {
    for mode in [0o777, 0o775, 0o757, 0o664, 0o646, 0o4755, 0o2755, 0o1755] {
        assert!(refusal(vec![file("/x", mode, vec![1])]).contains("only root may write"));
    }
    for mode in [0o755, 0o644, 0o555, 0o444] {
        assert!(Payload::new([file("/x", mode, vec![1])]).is_ok(), "{mode:o}");
    }
}

#[test]
fn a_tree_that_no_disk_can_hold_is_refused() {
    let twice = vec![file("/x", 0o644, vec![1]), file("/x", 0o644, vec![1])];
    assert!(refusal(twice).contains("twice"));
    let mixed = vec![file("/X/y", 0o644, vec![1]), file("/x/z", 0o644, vec![1])];
    assert!(refusal(mixed).contains("one path on a Mac"));
    let below = vec![file("/x", 0o644, vec![1]), file("/x/y", 0o644, vec![1])];
    assert!(refusal(below).contains("is no folder"));
    let through = vec![file("/f", 0o644, vec![1]), link("/x", "f"), file("/x/y", 0o644, vec![1])];
    assert!(refusal(through).contains("is no folder"));
    let many = (0..ENTRIES_MAX).map(|n| file(&format!("/{n}"), 0o644, vec![1])).collect();
    assert!(refusal(many).contains("at most"));
}

#[test]
fn a_link_leads_to_a_file_of_the_package_and_nowhere_else() {
    let with = |target: &str| {
        Payload::new([
            file("/usr/local/libexec/tandem/tandem", 0o755, vec![1]),
            link("/usr/local/bin/other", "../libexec/tandem/tandem"),
            link("/usr/local/bin/tandem", target),
        ])
    };
    assert!(with("../libexec/tandem/tandem").is_ok());
    for target in [
        "",
        "../libexec/tandem",
        "/usr/local/libexec/tandem/tandem",
        "../../../../etc/passwd",
        "../../../../../x",
        "other",
        "missing",
    ] {
        assert!(with(target).is_err(), "{target:?}");
    }
}

#[test]
fn a_source_that_is_empty_missing_a_folder_or_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    assert!(read(&path, 10).is_err());
    std::fs::write(&path, "").unwrap();
    assert!(format!("{:#}", read(&path, 10).unwrap_err()).contains("is empty"));
    std::fs::write(&path, "12345678901").unwrap();
    assert!(format!("{:#}", read(&path, 10).unwrap_err()).contains("more than 10"));
    assert_eq!(read(&path, 11).unwrap(), b"12345678901");
    assert!(format!("{:#}", read(folder.path(), 10).unwrap_err()).contains("no regular file"));
}
