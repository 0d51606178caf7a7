use super::*;
use crate::payload::{file, link};

/// The link in Apple's own Bom (apple-bom's test data): its target, and what that Bom says of it.
const APPLES_TARGET: &str =
    "/Library/Frameworks/Python.framework/Versions/3.9/Resources/Python.app/Contents/MacOS/Python";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn checksums_are_those_of_cksum_and_of_apples_tool() {
    for (bytes, sum) in [
        (&b""[..], 0xffff_ffff),
        (b"123456789", 930_766_865),
        (APPLES_TARGET.as_bytes(), 0xe11c_67ab),
    ] {
        assert_eq!(cksum(bytes), sum, "{bytes:?}");
    }
}

#[test]
fn records_are_byte_for_byte_those_of_apples_tool() {
    let link = link("/Python", APPLES_TARGET);
    let target = hex(APPLES_TARGET.as_bytes());
    assert_eq!(
        hex(&record(&link, 0x6090_2e8f).unwrap()),
        format!(
            "0301000fa1ed000000000000000060902e8f0000005c01e11c67ab0000005d{target}00\
             0000000000000000"
        )
    );
    // Of an empty file, "Icon\r".
    let empty = file("/Icon", 0o644, vec![]);
    assert_eq!(
        hex(&record(&empty, 0x6090_2e67).unwrap()),
        "0101000f81a4000000000000000060902e670000000001ffffffff0000000000000000"
    );
    // Of a folder, but for its size, 0x60 on the disk where it lay.
    let payload = Payload::new([empty]).unwrap();
    let root = payload.entries().first().unwrap();
    assert_eq!(
        hex(&record(root, 0x6090_2dd7).unwrap()),
        "0201000f41ed000000000000000060902dd700000000010000000000000000"
    );
}

#[test]
fn more_paths_than_a_leaf_holds_are_refused_and_as_many_as_it_holds_are_not() {
    let pairs = |count: u32| (0..count).map(|n| (n, n)).collect::<Vec<_>>();
    let entries = u32::try_from(crate::payload::ENTRIES_MAX).unwrap();
    assert!(tree(&mut Store::default(), leaf(&pairs(entries)), LEAF_BYTES, entries).is_ok());
    assert!(tree(&mut Store::default(), leaf(&pairs(entries + 1)), LEAF_BYTES, 511).is_err());
}
