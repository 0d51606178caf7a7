//! Readers that did not write the package find in it what went in.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, fs, io::Cursor, path::Path, process::Command};

use apple_bom::ParsedBom;
use apple_flat_package::{PkgFlavor, PkgReader};
use apple_xar::reader::XarReader;
use sha2::{Digest, Sha256};
use tandem_pkg::{
    layout,
    payload::{Entry, Kind, Payload},
};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an entry is as one line: type, permission bits, size, digest of a file, target of a link.
fn line(entry: &Entry) -> String {
    match &entry.kind {
        Kind::Folder => format!("dir {:o}", entry.mode),
        Kind::File(bytes) => format!("file {:o} {} {}", entry.mode, bytes.len(), sha256(bytes)),
        Kind::Link(target) => format!("link {:o} {target}", entry.mode),
    }
}

fn lines(payload: &Payload) -> BTreeMap<String, String> {
    payload.entries().iter().map(|entry| (entry.archive_name(), line(entry))).collect()
}

/// What bsdtar finds in an archive: owners are asserted, the rest is as in [`line`].
fn bsdtar_lines(bsdtar: &Path, archive: &Path) -> BTreeMap<String, String> {
    let options = "--options=mtree:!all,mtree:type,mtree:mode,mtree:uid,mtree:gid,mtree:size,\
                   mtree:sha256,mtree:link";
    let mut command = Command::new(bsdtar);
    command.args(["-cf", "-", "--format=mtree", options]);
    let text = support::output(command.arg(format!("@{}", archive.display())));
    let mut lines = BTreeMap::new();
    for row in String::from_utf8(text).unwrap().lines().filter(|row| row.starts_with('.')) {
        let mut words = row.split(' ');
        let path = words.next().unwrap().to_owned();
        let fields: BTreeMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
        assert_eq!((fields["uid"], fields["gid"]), ("0", "0"), "{row}");
        let line = match fields["type"] {
            "dir" => format!("dir {}", fields["mode"]),
            "file" => {
                format!("file {} {} {}", fields["mode"], fields["size"], fields["sha256digest"])
            }
            "link" => format!("link {} {}", fields["mode"], fields["link"]),
            other => panic!("{other}"),
        };
        assert!(lines.insert(path, line).is_none(), "{row}");
    }
    lines
}

#[test]
fn bsdtar_finds_every_path_with_owner_mode_and_digest() {
    let Some(bsdtar) = support::tool(&["bsdtar"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.pkg");
    fs::write(&file, support::package()).unwrap();
    let unpack = folder.path().join("unpacked");
    fs::create_dir(&unpack).unwrap();
    support::output(Command::new(&bsdtar).arg("-xf").arg(&file).arg("-C").arg(&unpack));
    let (payload, sources) = support::payload();
    let component = unpack.join("tandem.pkg");
    let found = bsdtar_lines(&bsdtar, &component.join("Payload"));
    // mtree leaves out the root's slash; the rest is name by name.
    assert_eq!(found, lines(&payload));
    let scripts = bsdtar_lines(&bsdtar, &component.join("Scripts"));
    let script = |bytes: &[u8]| format!("file 755 {} {}", bytes.len(), sha256(bytes));
    assert_eq!(scripts["./preinstall"], script(&sources.preinstall));
    assert_eq!(scripts["./postinstall"], script(&sources.postinstall));
    assert_eq!(scripts.len(), 3);
    for (name, bytes) in [
        ("welcome.html", &sources.welcome),
        ("LICENSE.txt", &sources.license),
        ("conclusion.html", &sources.conclusion),
    ] {
        assert_eq!(&fs::read(unpack.join("Resources").join(name)).unwrap(), bytes);
    }
}

#[test]
fn seven_zip_finds_the_members_and_no_fault() {
    let Some(seven_zip) = support::tool(&["7zz", "7z"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.pkg");
    fs::write(&file, support::package()).unwrap();
    support::output(Command::new(&seven_zip).args(["t", "-txar"]).arg(&file));
    let list =
        support::output(Command::new(&seven_zip).args(["l", "-ba", "-slt", "-txar"]).arg(&file));
    let list = String::from_utf8(list).unwrap();
    let mut paths: Vec<&str> =
        list.lines().filter_map(|line| line.strip_prefix("Path = ")).collect();
    // 7-Zip shows the table of contents as one more file.
    paths.retain(|path| *path != "[TOC].xml");
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "Distribution",
            "Resources",
            "Resources/LICENSE.txt",
            "Resources/conclusion.html",
            "Resources/welcome.html",
            "tandem.pkg",
            "tandem.pkg/Bom",
            "tandem.pkg/PackageInfo",
            "tandem.pkg/Payload",
            "tandem.pkg/Scripts"
        ]
    );
    // The payload, as 7-Zip's own gzip and cpio readers have it.
    support::output(
        Command::new(&seven_zip)
            .args(["x", "-txar", "-y"])
            .arg(format!("-o{}", folder.path().display()))
            .arg(&file)
            .arg("tandem.pkg/Payload"),
    );
    let gzip = folder.path().join("tandem.pkg/Payload");
    support::output(Command::new(&seven_zip).args(["t", "-tgzip"]).arg(&gzip));
    let cpio = support::output(Command::new(&seven_zip).args(["x", "-tgzip", "-so"]).arg(&gzip));
    let cpio_file = folder.path().join("Payload.cpio");
    fs::write(&cpio_file, cpio).unwrap();
    let list = support::output(
        Command::new(&seven_zip).args(["l", "-ba", "-slt", "-tcpio"]).arg(&cpio_file),
    );
    let list = String::from_utf8(list).unwrap();
    let mut found: Vec<String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("Path = "))
        .map(|path| path.trim_start_matches("./").to_owned())
        .collect();
    found.sort_unstable();
    let (payload, _) = support::payload();
    let mut put: Vec<String> = payload
        .entries()
        .iter()
        .map(|entry| if entry.path.is_empty() { ".".to_owned() } else { entry.path.clone() })
        .collect();
    put.sort_unstable();
    assert_eq!(found, put);
}

#[test]
fn the_flat_package_reader_finds_one_component_with_true_numbers() {
    let mut reader = PkgReader::new(Cursor::new(support::package())).unwrap();
    assert!(matches!(reader.flavor(), PkgFlavor::Product));
    let components = reader.component_packages().unwrap();
    let [component] = components.as_slice() else { panic!("{} components", components.len()) };
    let info = component.package_info().unwrap();
    assert_eq!(
        (
            info.identifier.as_str(),
            info.version.as_str(),
            info.auth.as_str(),
            info.install_location.as_deref(),
            info.format_version,
            info.relocatable,
            info.overwrite_permissions,
            info.postinstall_action.as_deref(),
        ),
        (
            layout::PACKAGE_ID,
            support::VERSION,
            "root",
            Some("/"),
            2,
            Some(false),
            Some(true),
            Some("none")
        )
    );
    let mut files = 0;
    let mut bytes = 0;
    let mut archive = component.payload_reader().unwrap().unwrap();
    while let Some(header) = archive.read_next().unwrap() {
        files += 1;
        if header.mode() & 0o170_000 == 0o100_000 {
            bytes += header.file_size();
        }
    }
    let numbers = info.payload.clone().unwrap();
    assert_eq!(numbers.number_of_files, files);
    assert_eq!(numbers.install_kbytes, bytes.div_ceil(1024));
    assert!(files > 20 && bytes > 11_010, "{files} files, {bytes} bytes");
}

#[test]
fn the_bom_reader_lists_every_path_with_owner_mode_size_time_and_checksum() {
    let Some(cksum) = support::tool(&["cksum"]) else { return };
    let mut reader = PkgReader::new(Cursor::new(support::package())).unwrap();
    let component = reader.component_packages().unwrap().remove(0);
    let bom = ParsedBom::parse(component.bom().unwrap()).unwrap();
    let (payload, _) = support::payload();
    let folder = tempfile::tempdir().unwrap();
    let mut found = BTreeMap::new();
    for path in bom.paths().unwrap() {
        assert_eq!((path.user_id(), path.group_id()), (0, 0));
        assert_eq!(path.modified_time().timestamp(), i64::from(support::TIME_S));
        let row =
            (path.file_mode(), path.size(), path.crc32(), path.link_name().map(str::to_owned));
        assert!(found.insert(path.path().to_owned(), row).is_none());
    }
    let mut put = BTreeMap::new();
    for entry in payload.entries() {
        let file = folder.path().join("stored");
        fs::write(&file, entry.stored()).unwrap();
        let sum = support::output(Command::new(&cksum).arg(&file));
        let sum: u32 = String::from_utf8(sum).unwrap().split(' ').next().unwrap().parse().unwrap();
        let (kind, sum, target) = match &entry.kind {
            Kind::Folder => (0o040_000, None, None),
            Kind::File(_) => (0o100_000, Some(sum), None),
            Kind::Link(target) => (0o120_000, Some(sum), Some(target.clone())),
        };
        put.insert(entry.archive_name(), (kind | entry.mode, entry.stored().len(), sum, target));
    }
    assert_eq!(found, put);
    assert_eq!(bom.bom_info().unwrap().number_of_paths as usize, put.len() + 1);
    for empty in [bom.hl_index(), bom.vindex(), bom.size64()] {
        assert!(empty.unwrap().is_empty());
    }
}

#[test]
fn the_bom_is_sorted_as_apples_is_so_that_a_path_can_be_searched_in_it() {
    let mut reader = PkgReader::new(Cursor::new(support::package())).unwrap();
    let component = reader.component_packages().unwrap().remove(0);
    let bom = ParsedBom::parse(component.bom().unwrap()).unwrap();
    let variable = bom.find_variable("Paths").unwrap();
    let tree = bom.block_as_tree(variable.block_index as usize).unwrap();
    let leaf = tree.paths(&bom).unwrap();
    assert_eq!((leaf.is_path_info, leaf.next_paths_block_index), (1, 0));
    assert_eq!(leaf.count, u16::try_from(tree.path_count).unwrap());
    let key = |index| {
        let file = leaf.file_at(&bom, index).unwrap();
        (file.parent_path_id, file.name.to_bytes().to_vec())
    };
    let keys: Vec<_> = (0..leaf.paths.len()).map(key).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
    // The tree itself has another order, or this would show nothing.
    let ids: Vec<u32> =
        (0..leaf.paths.len()).map(|index| leaf.path_id_at(&bom, index).unwrap()).collect();
    assert!(!ids.is_sorted(), "{ids:?}");
}

#[test]
fn the_xar_reader_finds_its_checksum_and_no_signature() {
    let mut reader = XarReader::new(Cursor::new(support::package())).unwrap();
    assert!(reader.verify_table_of_contents_checksum().unwrap());
    assert!(reader.table_of_contents().signatures().is_empty());
    assert_eq!(reader.table_of_contents().creation_time, "2024-02-29T12:34:56");
    for (path, file) in reader.files().unwrap() {
        assert_eq!((file.uid, file.gid), (Some(0), Some(0)), "{path}");
        let mode = if file.data.is_some() { "0644" } else { "0755" };
        assert_eq!(file.mode.as_deref(), Some(mode), "{path}");
    }
}

#[test]
fn what_is_installed_lies_where_the_layout_says() {
    let (payload, sources) = support::payload();
    let lines = lines(&payload);
    let of = |path: &str| lines.get(&format!(".{path}")).map(String::as_str);
    let file = |mode: &str, bytes: &[u8]| format!("file {mode} {} {}", bytes.len(), sha256(bytes));
    let beside = |name: &str| format!("{}/{name}", layout::LIBEXEC);
    for (path, line) in [
        (layout::EXECUTABLE.to_owned(), file("755", &support::noise(1, 3_001))),
        (beside("libmlx.dylib"), file("755", &support::noise(2, 2_002))),
        (beside("libjaccl.dylib"), file("755", &support::noise(3, 1_003))),
        (beside("mlx.metallib"), file("644", &support::noise(4, 5_004))),
        (layout::UNINSTALLER.to_owned(), file("755", &sources.uninstall)),
        (layout::COMMAND.to_owned(), "link 755 ../libexec/tandem/tandem".to_owned()),
        (layout::CONFIG_DEFAULT.to_owned(), file("644", &sources.config)),
        ("/usr/local/share/tandem/LICENSE".to_owned(), file("644", &sources.license)),
        ("/usr/local/share/tandem/LICENSE-THIRD-PARTY".to_owned(), file("644", support::LICENSES)),
        (layout::JOB.to_owned(), file("644", &sources.job)),
        (format!("/private{}", layout::NEWSYSLOG), file("644", &sources.newsyslog)),
    ] {
        assert_eq!(of(&path), Some(line.as_str()), "{path}");
    }
    let files = lines.values().filter(|line| !line.starts_with("dir")).count();
    assert_eq!(files, 11, "{lines:?}");
    assert!(lines.values().filter(|line| line.starts_with("dir")).all(|line| line == "dir 755"));
    // An admin's config is made by the postinstall script where there is none, never replaced.
    assert_eq!(of(layout::CONFIG), None);
}
