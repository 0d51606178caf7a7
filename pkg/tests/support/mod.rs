//! A package of small stand-ins, and the tools that look at it.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use tandem_pkg::{cross::Built, payload::Payload, product, sources::Sources};

/// Version of the sample; not that of the tree, so that nothing is right by accident.
pub(crate) const VERSION: &str = "7.8.9";
/// 2024-02-29T12:34:56 in UTC.
pub(crate) const TIME_S: u32 = 1_709_210_096;

/// What stands in for the licences of others.
pub(crate) const LICENSES: &[u8] = b"Anyone may use it.\n";

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Bytes that don't compress to nothing and differ by `seed`.
pub(crate) fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Stand-ins for what the build makes, in a folder.
pub(crate) fn built(folder: &Path) -> Built {
    let file = |name: &str, seed, length| {
        let path = folder.join(name);
        fs::write(&path, noise(seed, length)).unwrap();
        path
    };
    let licenses = folder.join("licenses.txt");
    fs::write(&licenses, LICENSES).unwrap();
    Built {
        licenses,
        executable: file("tandem", 1, 3_001),
        libraries: vec![file("libmlx.dylib", 2, 2_002), file("libjaccl.dylib", 3, 1_003)],
        metallib: file("mlx.metallib", 4, 5_004),
    }
}

/// `tandem-pkg pack` of stand-ins in a folder, into its `out`, from the checkout.
pub(crate) fn pack(folder: &Path) -> Command {
    let stand_ins = folder.join("stand-ins");
    fs::create_dir_all(&stand_ins).unwrap();
    let built = built(&stand_ins);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-pkg"));
    command
        .args(["pack", "--executable"])
        .arg(built.executable)
        .arg("--library")
        .args(built.libraries)
        .arg("--metallib")
        .arg(built.metallib)
        .arg("--licenses")
        .arg(built.licenses)
        .arg("--out")
        .arg(folder.join("out"))
        .current_dir(root())
        .env_remove("SOURCE_DATE_EPOCH");
    command
}

/// What is packed: the stand-ins, and the checkout's own files.
pub(crate) fn payload() -> (Payload, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let sources = Sources::read(&root()).unwrap();
    (Payload::of(&built(folder.path()), &sources).unwrap(), sources)
}

/// The sample as bytes.
pub(crate) fn package() -> Vec<u8> {
    let (payload, sources) = payload();
    product::package(&payload, &sources, VERSION, TIME_S).unwrap()
}

/// The first of these tools that there is. Without any the test is skipped, and says so; with
/// `TANDEM_REQUIRE_ALL` it fails.
pub(crate) fn tool(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = names
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        let reason = format!("needs one of {names:?}");
        assert!(env::var_os("TANDEM_REQUIRE_ALL").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
    }
    found
}

/// Standard output of a tool that must succeed.
pub(crate) fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output.stdout
}
