//! Checks on images that are right but for one thing, and on the real product where it was built.

use super::link_edit::{bind_opcodes, chained_imports, exports};
use super::*;

fn import(name: &str, ordinal: i64) -> Import {
    Import { name: name.to_owned(), ordinal, weak: false }
}

/// An executable as the builder makes it.
fn good() -> (Image, Expected) {
    let library = |name: &str| Library { name: name.to_owned(), weak: false };
    let image = Image {
        is_arm64: true,
        file_type: MH_EXECUTE,
        flags: MH_PIE | MH_TWOLEVEL,
        platform: Some(PLATFORM_MACOS),
        min_os: (26, 2),
        sdk: (26, 4),
        id: None,
        libraries: vec![library("@rpath/libmlx.dylib"), library("/usr/lib/libSystem.B.dylib")],
        rpaths: vec![RPATH.to_owned()],
        has_entry: true,
        unexpected_commands: Vec::new(),
        imports: [import("_mlx", 1), import("_write", 2), import("__Znwm", WEAK_LOOKUP)].into(),
        undefined: [import("_mlx", 1), import("_write", 2)].into(),
        exports: BTreeSet::new(),
        signature: Ok(Signature {
            identifier: "tandem".to_owned(),
            ad_hoc: true,
            hardened: false,
            has_certificates: false,
            pages: 1,
        }),
    };
    let symbols = |name: &str| BTreeSet::from([name.to_owned()]);
    let expected = Expected {
        min_os: (26, 2),
        rpaths: vec![RPATH.to_owned()],
        libraries: [
            ("@rpath/libmlx.dylib".to_owned(), symbols("_mlx")),
            ("/usr/lib/libSystem.B.dylib".to_owned(), symbols("_write")),
        ]
        .into(),
        identity: false,
    };
    (image, expected)
}

#[test]
fn an_executable_with_one_thing_wrong_has_one_fault_that_names_it() {
    type Change = fn(&mut Image);
    let cases: [(&str, Change); 17] = [
        ("not for arm64", |it| it.is_arm64 = false),
        ("not for macOS", |it| it.platform = Some(2)),
        ("no executable", |it| it.file_type = MH_DYLIB),
        ("no executable", |it| it.has_entry = false),
        ("random address", |it| it.flags = MH_TWOLEVEL),
        ("to any library", |it| it.flags = MH_PIE),
        ("oldest macOS is not 26.2", |it| it.min_os = (27, 0)),
        ("run paths", |it| it.rpaths.clear()),
        ("run paths", |it| it.rpaths.push("/opt/lib".to_owned())),
        ("command 0x8000001c", |it| it.unexpected_commands.push(0x8000_001c)),
        ("loads /usr/lib/libz.1.dylib", |it| {
            it.libraries.push(Library { name: "/usr/lib/libz.1.dylib".to_owned(), weak: false });
        }),
        ("_gone is not in @rpath/libmlx.dylib", |it| {
            it.imports.insert(import("_gone", 1));
        }),
        ("_write is not in @rpath/libmlx.dylib", |it| {
            it.imports.insert(import("_write", 1));
        }),
        ("_any is not bound to one library", |it| {
            it.imports.insert(import("_any", -2));
        }),
        ("_far is bound to a library that is not named", |it| {
            it.imports.insert(import("_far", 9));
        }),
        ("_open is not in /usr/lib/libSystem.B.dylib", |it| {
            it.undefined.insert(import("_open", 2));
        }),
        ("the page at 0x0", |it| it.signature = Err("the page at 0x0".to_owned())),
    ];
    let (image, expected) = good();
    assert_eq!(check_executable(&image, &expected), Vec::<String>::new());
    for (fault, change) in cases {
        let mut changed = image.clone();
        change(&mut changed);
        let faults = check_executable(&changed, &expected);
        assert_eq!(faults.len(), 1, "{fault}: {faults:?}");
        assert!(faults[0].contains(fault), "{fault}: {faults:?}");
    }
}

#[test]
fn without_mlx_the_executable_is_no_product() {
    let (mut image, expected) = good();
    image.libraries.remove(0);
    image.imports = [import("_write", 1)].into();
    image.undefined.clear();
    let faults = check_executable(&image, &expected);
    assert_eq!(faults, ["it does not load @rpath/libmlx.dylib"]);
}

#[test]
fn an_ad_hoc_signature_is_not_taken_for_an_identitys_nor_the_other_way() {
    let (image, mut expected) = good();
    expected.identity = true;
    assert_eq!(check_executable(&image, &expected).len(), 1);
    let mut signed = image;
    let by = |ad_hoc, hardened, has_certificates| {
        Ok(Signature {
            identifier: "tandem".to_owned(),
            ad_hoc,
            hardened,
            has_certificates,
            pages: 1,
        })
    };
    for (identity, signature, faults) in [
        (true, by(false, true, true), 0),
        (true, by(false, false, true), 1),
        (true, by(false, true, false), 1),
        (false, by(false, true, true), 1),
        (false, by(true, true, true), 1),
    ] {
        expected.identity = identity;
        signed.signature = signature;
        let found = check_executable(&signed, &expected);
        assert_eq!(found.len(), faults, "{:?}: {found:?}", signed.signature);
    }
}

#[test]
fn a_library_must_name_itself_and_load_only_what_is_shipped_or_the_macs() {
    let (mut image, mut expected) = good();
    image.file_type = MH_DYLIB;
    image.id = Some("@rpath/libmlx.dylib".to_owned());
    image.libraries[0].name = "@rpath/libjaccl.dylib".to_owned();
    expected.libraries.insert("@rpath/libjaccl.dylib".to_owned(), ["_mlx".to_owned()].into());
    let faults = |image: &Image| check_library(image, "libmlx.dylib", &expected);
    assert_eq!(faults(&image), Vec::<String>::new());

    let mut changed = image.clone();
    changed.id = Some("/build/libmlx.dylib".to_owned());
    assert_eq!(faults(&changed).len(), 1);
    let mut changed = image.clone();
    changed.libraries[1].name = "/opt/homebrew/lib/libomp.dylib".to_owned();
    assert_eq!(faults(&changed).len(), 1);
    let mut changed = image.clone();
    changed.imports.insert(import("_jaccl_new", 1));
    assert_eq!(faults(&changed), ["_jaccl_new is not in @rpath/libjaccl.dylib"]);
    let mut changed = image;
    changed.min_os = (26, 3);
    assert_eq!(faults(&changed).len(), 1);
}

#[test]
fn binding_opcodes_tell_each_symbol_with_its_library() {
    let stream = [
        &[0x11, 0x40][..],
        b"_a\0",
        &[0x51, 0x72, 0x80, 0x01, 0x90, 0x12, 0x41],
        b"_b\0",
        &[0xa0, 0x08, 0x20, 0x85, 0x01, 0x40],
        b"_c\0",
        &[0xb3, 0x3e, 0x40],
        b"_d\0",
        &[0xc0, 0x02, 0x08, 0x00, 0x30, 0x40],
        b"_e\0",
        &[0x90],
    ]
    .concat();
    let mut weak = import("_b", 2);
    weak.weak = true;
    let found = bind_opcodes(&stream).unwrap();
    let expected = [import("_a", 1), weak, import("_c", 133), import("_d", -2), import("_e", SELF)];
    assert_eq!(found, expected.into());
    assert_eq!(bind_opcodes(&[0x40, b'_']), None, "a name without an end");
    assert_eq!(bind_opcodes(&[0xd0]), None, "an opcode of arm64e");
}

#[test]
fn chained_imports_of_each_form_tell_the_same() {
    let expected: BTreeSet<Import> = [import("_a", 1), import("_b", -3)].into();
    let names = b"\0_a\0_b\0";
    for format in [1_u32, 2, 3] {
        let mut entries = Vec::new();
        for (name, ordinal) in [(1_u32, 1_i16), (4, -3)] {
            let low = u32::from(ordinal.to_le_bytes()[0]);
            match format {
                1 => entries.extend((low | name << 9).to_le_bytes()),
                2 => entries.extend((u64::from(low | name << 9)).to_le_bytes()),
                _ => {
                    entries.extend(u32::from(ordinal as u16).to_le_bytes());
                    entries.extend(name.to_le_bytes());
                    entries.extend([0; 8]);
                }
            }
        }
        let symbols = 28 + u32::try_from(entries.len()).unwrap();
        let mut data = Vec::new();
        for number in [0, 28, 28, symbols, 2, format, 0] {
            data.extend(number.to_le_bytes());
        }
        data.extend(&entries);
        data.extend(names);
        assert_eq!(chained_imports(&data), Some(expected.clone()), "{format}");
        assert_eq!(chained_imports(&data[..data.len() - 3]), None);
    }
}

#[test]
fn an_exports_trie_tells_the_names_and_a_loop_in_it_is_noticed() {
    // "_" leads to a node with "a" (a leaf) and "b" (a leaf).
    let trie =
        [&[0, 1][..], b"_\0", &[5, 0, 2], b"a\0", &[13], b"b\0", &[17, 2, 0, 1, 0, 2, 0, 1, 0]]
            .concat();
    let names = exports(&trie).unwrap();
    assert_eq!(names, ["_a".to_owned(), "_b".to_owned()].into());
    assert_eq!(exports(&[]), Some(BTreeSet::new()));
    assert_eq!(exports(&[0, 1, b'x', 0, 0]), None, "its own child");
    assert_eq!(exports(&trie[..15]), None, "cut short");
}

/// The product of `tandem-pkg cross` in this checkout; none on a machine that did not build it.
fn product() -> Option<(std::path::PathBuf, Expected)> {
    let options = Options::in_checkout(Path::new(env!("CARGO_MANIFEST_DIR")).parent()?).ok()?;
    let executable = options.out.join("product/tandem");
    if !executable.exists() {
        // The test command builds it first and says so.
        assert!(std::env::var_os("TANDEM_REQUIRE_MAC").is_none(), "no product");
        return None;
    }
    Some((executable, Expected::product(&options).unwrap()))
}

#[test]
fn the_real_product_is_right_and_is_not_once_a_byte_or_a_run_path_of_it_changes() {
    let Some((executable, expected)) = product() else {
        return;
    };
    let report = check_product(&executable, &expected).unwrap();
    assert_eq!(report.faults(), Vec::<String>::new(), "{report}");

    let file = fs::read(&executable).unwrap();
    let check = |file: &[u8], expected: &Expected| {
        let mut expected = expected.clone();
        let mlx = read(&executable.with_file_name("libmlx.dylib")).unwrap();
        expected.libraries.insert("@rpath/libmlx.dylib".to_owned(), mlx.exports);
        check_executable(&Image::parse(file).unwrap(), &expected)
    };
    assert_eq!(check(&file, &expected), Vec::<String>::new());
    // In the middle is code: nothing but the signature can tell.
    let mut flipped = file.clone();
    flipped[file.len() / 2] ^= 1;
    let faults = check(&flipped, &expected);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("changed afterwards"), "{faults:?}");
    // The run path's text lies among the load commands.
    let at = file.windows(RPATH.len()).position(|it| it == RPATH.as_bytes()).unwrap();
    let mut elsewhere = file.clone();
    elsewhere[at + 1] = b'L';
    let faults = check(&elsewhere, &expected);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults.iter().any(|it| it.contains("run paths")), "{faults:?}");
    // A symbol that MLX does not have (any more) is undefined, whatever the symbol table says.
    let mut without = expected.clone();
    let system = without.libraries.get_mut("/usr/lib/libSystem.B.dylib");
    assert!(system.unwrap().remove("_write"));
    let faults = check(&file, &without);
    assert_eq!(faults, ["_write is not in /usr/lib/libSystem.B.dylib"]);
}
