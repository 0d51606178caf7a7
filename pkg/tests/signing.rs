//! Packages that tools for signing have had in their hands. The tools here are stand-ins: there is no
//! certificate to sign with.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use tandem_pkg::{inspect::inspect, xar::sha1};

const SIGNATURE_BYTES: usize = 256;

/// The package with room for a signature, as `productsign` leaves it: the signature after the checksum,
/// what comes behind moved, the table of contents written anew. The signature itself is of no key.
fn signed(package: &[u8], signature_bytes: usize) -> Vec<u8> {
    let number = |at: usize| u64::from_be_bytes(package[at..at + 8].try_into().unwrap());
    let heap = 28 + usize::try_from(number(8)).unwrap();
    let mut table = String::new();
    ZlibDecoder::new(&package[28..heap]).read_to_string(&mut table).unwrap();
    let mut moved = String::new();
    for (index, part) in table.split("<offset>").enumerate() {
        let (offset, rest) = part.split_once('<').unwrap();
        match offset.parse::<usize>() {
            Ok(offset) if index > 1 => {
                moved.push_str(&format!("<offset>{}<{rest}", offset + SIGNATURE_BYTES));
            }
            _ if index == 0 => moved.push_str(part),
            _ => moved.push_str(&format!("<offset>{part}")),
        }
    }
    let signature = format!(
        "</checksum><signature style=\"RSA\"><offset>20</offset><size>{signature_bytes}</size>\
         <KeyInfo xmlns=\"http://www.w3.org/2000/09/xmldsig#\"><X509Data>\
         <X509Certificate>AAAA</X509Certificate></X509Data></KeyInfo></signature>"
    );
    let table = moved.replacen("</checksum>", &signature, 1);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(table.as_bytes()).unwrap();
    let packed = zlib.finish().unwrap();
    let mut signed = package[..8].to_vec();
    signed.extend((packed.len() as u64).to_be_bytes());
    signed.extend((table.len() as u64).to_be_bytes());
    signed.extend(&package[24..28]);
    signed.extend(&packed);
    signed.extend(sha1(&packed).unwrap());
    signed.extend([7; SIGNATURE_BYTES]);
    signed.extend(&package[heap + 20..]);
    signed
}

#[test]
fn a_signature_is_told_and_what_it_signs_is_the_same() {
    let package = support::package();
    let (before, after) =
        (inspect(&package).unwrap(), inspect(&signed(&package, SIGNATURE_BYTES)).unwrap());
    assert!(!before.signed && after.signed);
    assert_eq!(before.members, after.members);
    assert_eq!(before.payload, after.payload);
    // Bytes between signature and members would be bytes that nothing guards.
    assert!(inspect(&signed(&package, SIGNATURE_BYTES - 1)).is_err());
}

/// Packs with a stand-in for rcodesign that writes down its arguments and then runs `script`; `$4` to `$7`
/// of a signature's are password file, unsigned and signed package.
fn pack_signed(folder: &Path, script: &str) -> Output {
    let tools = folder.join("tools");
    fs::create_dir_all(&tools).unwrap();
    let tool = tools.join("rcodesign");
    let log = folder.join("log");
    fs::write(&tool, format!("#!/bin/sh\necho \"$*\" >>'{}'\n{script}\n", log.display())).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    support::pack(folder)
        .env("PATH", format!("{}:{path}", tools.display()))
        .args(["--installer-p12-file", "/keys/installer.p12"])
        .args(["--installer-p12-password-file", "/keys/password"])
        .args(["--notary-key-file", "/keys/notary.json"])
        .output()
        .unwrap()
}

#[test]
fn a_tool_that_fails_or_signs_nothing_leaves_no_package() {
    for (script, told) in [
        ("exit 3", "rcodesign failed"),
        ("[ \"$1\" = sign ] && cp \"$6\" \"$7\"; exit 0", "left no signature"),
        ("exit 0", "signed.pkg can't be opened"),
        ("[ \"$1\" = sign ] && cp \"$6\" \"$7\" && exit 0; exit 1", "rcodesign failed"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = pack_signed(folder.path(), script);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(told), "{script}: {stderr}");
        assert!(output.stdout.is_empty());
        let left = fs::read_dir(folder.path().join("out")).unwrap().count();
        assert_eq!(left, 0, "{script}");
    }
}

#[test]
fn a_signed_package_is_sent_to_the_notary_and_then_gets_its_name() {
    let folder = tempfile::tempdir().unwrap();
    // What the tool would make of the package is made before, of one that was packed unsigned.
    let output = pack_signed(folder.path(), "cp \"$6\" \"$0.unsigned\"; exit 1");
    assert!(!output.status.success());
    let unsigned = fs::read(folder.path().join("tools/rcodesign.unsigned")).unwrap();
    let made = signed(&unsigned, SIGNATURE_BYTES);
    fs::write(folder.path().join("tools/rcodesign.signed"), &made).unwrap();
    fs::remove_file(folder.path().join("log")).unwrap();
    let script = "[ \"$1\" = notary-submit ] || cp \"$0.signed\" \"$7\"";
    let output = pack_signed(folder.path(), script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8(output.stdout).unwrap();
    assert!(fs::read(path.trim_end()).unwrap() == made, "another package than the signed one");
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    let calls: Vec<&str> = log.lines().map(|call| call.split(' ').next().unwrap()).collect();
    assert_eq!(calls, ["sign", "notary-submit"], "{log}");
    assert!(log.contains("--p12-password-file /keys/password") && log.contains("--staple"));
}
