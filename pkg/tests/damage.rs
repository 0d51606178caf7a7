//! A package with anything changed in it is not found in order.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Cursor;

use apple_xar::reader::XarReader;
use tandem_pkg::{
    bom, cpio, distribution,
    inspect::inspect,
    package_info,
    payload::{self, Entry, Payload},
    product,
    xar::{self, Encoding, Member},
};

#[test]
fn a_package_as_it_was_made_is_in_order_and_tells_what_is_in_it() {
    let report = inspect(&support::package()).unwrap();
    assert_eq!((report.identifier.as_str(), report.version.as_str()), ("io.tandem.pkg", "7.8.9"));
    assert!(!report.signed && !report.stapled);
    let row = report.payload.iter().find(|row| row.path.ends_with("libexec/tandem/tandem"));
    let row = row.unwrap();
    assert_eq!((row.mode.as_str(), row.uid, row.gid, row.size_bytes), ("0755", 0, 0, 3_001));
    let text = report.text();
    let link = "./usr/local/bin/tandem  -> ../libexec/tandem/tandem";
    assert!(text.contains(link) && text.contains(&report.sha256), "{text}");
}

/// Positions that matter: all of the header, both ends and some of the middle of each part.
fn positions(package: &[u8]) -> Vec<usize> {
    let reader = XarReader::new(Cursor::new(package.to_vec())).unwrap();
    let heap = usize::try_from(reader.heap_start_offset()).unwrap();
    let mut parts = vec![(28, heap), (heap, heap + 20)];
    for (_, file) in reader.files().unwrap() {
        let Some(data) = file.data else { continue };
        let offset = heap + usize::try_from(data.offset).unwrap();
        parts.push((offset, offset + usize::try_from(data.length).unwrap()));
    }
    let mut positions: Vec<usize> = (0..28).collect();
    for (from, to) in parts {
        let step = ((to - from) / 20).max(1);
        positions.extend((from..to).step_by(step));
        positions.extend([from + 1, to - 2, to - 1]);
    }
    positions.sort_unstable();
    positions.dedup();
    positions
}

#[test]
fn one_flipped_bit_anywhere_is_noticed() {
    let package = support::package();
    let positions = positions(&package);
    assert!(positions.len() > 200 && positions.last() == Some(&(package.len() - 1)));
    for position in positions {
        for bit in [0x01, 0x80] {
            let mut damaged = package.clone();
            damaged[position] ^= bit;
            assert!(inspect(&damaged).is_err(), "byte {position}, bit {bit:#x}");
        }
    }
}

#[test]
fn a_package_that_is_cut_off_or_goes_on_is_noticed() {
    let package = support::package();
    for length in [0, 1, 27, 28, 29, 500, package.len() / 2, package.len() - 1] {
        assert!(inspect(&package[..length]).is_err(), "{length} bytes");
    }
    for more in [&b"\0"[..], b"t8lr", &[0; 32], b"t8lr\x01\0\x01\0\0\0\0\0\0\0\0\0"] {
        assert!(inspect(&[&package[..], more].concat()).is_err(), "{more:?}");
    }
}

#[test]
fn a_stapled_ticket_is_told_and_is_no_damage() {
    let ticket = b"ticket";
    let mut stapled = support::package();
    stapled.extend(b"t8lr\x01\0\x01\0\0\0\0\0\0\0\0\0");
    stapled.extend(ticket);
    stapled.extend(b"t8lr\x01\0\x02\0\x06\0\0\0\0\0\0\0");
    assert!(inspect(&stapled).unwrap().stapled);
    stapled.insert(stapled.len() - 16, b'!');
    assert!(inspect(&stapled).is_err());
}

/// Parts of a package, to be put together wrongly: each is valid by itself.
struct Parts {
    payload: Payload,
    scripts: Payload,
    bom: Vec<u8>,
    info: String,
    names: [&'static str; 4],
}

impl Parts {
    fn new() -> Parts {
        let (payload, sources) = support::payload();
        let script = |path, bytes: &[u8]| payload::file(path, 0o755, bytes.to_vec());
        let scripts = Payload::new([
            script("/preinstall", &sources.preinstall),
            script("/postinstall", &sources.postinstall),
        ])
        .unwrap();
        Parts {
            bom: bom::bom(&payload, support::TIME_S).unwrap(),
            info: package_info::document(&payload, support::VERSION).unwrap(),
            payload,
            scripts,
            names: ["Bom", "PackageInfo", "Payload", "Scripts"],
        }
    }

    fn refusal(&self) -> String {
        match inspect(&self.package()) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    fn package(&self) -> Vec<u8> {
        let (_, sources) = support::payload();
        let file = |name: &str, contents: Vec<u8>| Member::File {
            name: name.to_owned(),
            contents,
            encoding: Encoding::Stored,
        };
        let distribution = distribution::document(support::VERSION, 12).unwrap();
        let cpio = |tree| cpio::archive(tree, support::TIME_S).unwrap();
        let folder = |name: &str, members| Member::Folder { name: name.to_owned(), members };
        let [bom, info, payload, scripts] = self.names;
        let members = [
            file("Distribution", distribution.into_bytes()),
            folder(
                "Resources",
                vec![
                    file("welcome.html", sources.welcome),
                    file("LICENSE.txt", sources.license),
                    file("conclusion.html", sources.conclusion),
                ],
            ),
            folder(
                "tandem.pkg",
                vec![
                    file(bom, self.bom.clone()),
                    file(info, self.info.clone().into_bytes()),
                    file(payload, cpio(&self.payload)),
                    file(scripts, cpio(&self.scripts)),
                ],
            ),
        ];
        xar::archive(&members, support::TIME_S).unwrap()
    }
}

/// The payload with one entry made another.
fn with(change: impl Fn(&mut Entry)) -> Payload {
    let (payload, _) = support::payload();
    let leaves = payload.entries().iter().filter(|entry| entry.kind != payload::Kind::Folder);
    Payload::new(leaves.cloned().map(|mut entry| {
        // Entries know paths below the root; leaves are given from the root.
        entry.path.insert(0, '/');
        if entry.path == "/usr/local/libexec/tandem/tandem" {
            change(&mut entry);
        }
        entry
    }))
    .unwrap()
}

#[test]
fn parts_that_do_not_belong_together_are_noticed() {
    assert_eq!(Parts::new().refusal(), "", "the parts as they are belong together");

    let mut parts = Parts::new();
    parts.bom = bom::bom(&with(|entry| entry.mode = 0o644), support::TIME_S).unwrap();
    assert!(parts.refusal().contains("the Bom"), "another mode: {}", parts.refusal());
    let longer = with(|entry| entry.kind = payload::Kind::File(vec![1; 3_001]));
    parts.bom = bom::bom(&longer, support::TIME_S).unwrap();
    assert!(parts.refusal().contains("the Bom"), "another checksum: {}", parts.refusal());
    parts.bom = bom::bom(&with(|_| ()), support::TIME_S + 1).unwrap();
    assert!(parts.refusal().contains("the Bom"), "another time: {}", parts.refusal());
    let less = Payload::new([payload::file("/x", 0o644, vec![1])]).unwrap();
    parts.bom = bom::bom(&less, support::TIME_S).unwrap();
    assert!(parts.refusal().contains("the Bom"), "other paths: {}", parts.refusal());

    let mut parts = Parts::new();
    let info = parts.info.clone();
    for (from, to) in [
        ("numberOfFiles=\"", "numberOfFiles=\"1"),
        ("installKBytes=\"", "installKBytes=\"1"),
        ("auth=\"root\"", "auth=\"none\""),
        ("io.tandem.pkg", "io.tandem.other"),
        ("install-location=\"/\"", "install-location=\"/tmp\""),
        ("relocatable=\"false\"", "relocatable=\"true\""),
        ("./preinstall", "./other"),
        ("<preinstall file=\"./preinstall\"/>", ""),
    ] {
        parts.info = info.replace(from, to);
        assert_ne!(parts.info, info, "{from}");
        assert_ne!(parts.refusal(), "", "{to}");
    }

    let mut parts = Parts::new();
    parts.scripts = Payload::new([payload::file("/preinstall", 0o755, vec![1])]).unwrap();
    assert!(parts.refusal().contains("scripts"), "{}", parts.refusal());
    parts.scripts = Payload::new([
        payload::file("/preinstall", 0o644, vec![1]),
        payload::file("/postinstall", 0o755, vec![1]),
    ])
    .unwrap();
    assert!(parts.refusal().contains("mode"), "{}", parts.refusal());

    let mut parts = Parts::new();
    parts.names = ["Bom", "PackageInfo", "Payload", "Other"];
    assert!(parts.refusal().contains("the archive holds"), "{}", parts.refusal());
}

#[test]
fn a_version_that_installers_can_not_compare_is_refused() {
    let (payload, sources) = support::payload();
    for version in ["", "1.0-rc.1", "1.0+5", "1..2", "v1", "1.0\"><x/>", "-1"] {
        let made = product::package(&payload, &sources, version, 0);
        assert!(made.is_err(), "{version:?}");
    }
    assert!(product::package(&payload, &sources, "10.20.30", 0).is_ok());
}
