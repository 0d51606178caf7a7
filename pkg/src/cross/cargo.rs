//! Cargo, set to the Mac by a generated config file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Options, TARGET, Tools};

/// Builds `tandem` and returns the linked executable. Another `link_key` links again.
///
/// # Errors
/// Cargo's, or a path can't be written into its config.
pub(super) fn build(tools: &Tools, options: &Options, link_key: &str) -> anyhow::Result<PathBuf> {
    let file = options.out.join("config.toml");
    write_if_changed(&file, &config(tools, options, link_key)?)?;
    tools
        .cargo_build(options)?
        .args(["--release", "--locked", "--package", "tandem", "--bin", "tandem"])
        .arg("--target-dir")
        .arg(&options.out)
        .arg("--config")
        .arg(&file)
        .in_folder(&options.root)
        .run()?;
    let executable = options.out.join(TARGET).join("release/tandem");
    anyhow::ensure!(executable.is_file(), "cargo left no {}", executable.display());
    Ok(executable)
}

/// The config: MLX's place by Cargo's build-script override, where the executable looks for MLX's
/// libraries, and on Linux where the linker finds the stubs.
fn config(tools: &Tools, options: &Options, link_key: &str) -> anyhow::Result<String> {
    let stubs = options.stubs();
    let mut rustflags = vec!["-Clink-arg=-Wl,-rpath,@loader_path".to_owned()];
    match tools {
        Tools::OnLinux(_) => {
            // What crates name but do not use (libiconv) is not loaded.
            rustflags.push("-Clink-arg=-Wl,-dead_strip_dylibs".to_owned());
            rustflags.push(format!("-Clink-arg=-F{}", text(&stubs.join("Frameworks"))?));
            rustflags.push(format!("-Clink-arg=-L{}", text(&stubs.join("lib"))?));
            // By its path: for -lc++ zig links a libc++ of its own into the executable, and an exception
            // that libmlx.dylib throws by the Mac's libc++ would not be caught by mlx-c's handlers.
            rustflags.push(format!("-Clink-arg={}", text(&stubs.join("lib/libc++.tbd"))?));
        }
        Tools::OnMac(_) => rustflags.push("-Clink-arg=-lc++".to_owned()),
    }
    let search = [options.out.join("mlx-c"), options.mlx().join("lib")];
    let search = search
        .iter()
        .map(|folder| Ok(format!("native={}", text(folder)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // In debug form a Rust string is written as TOML writes it, for the characters that `text` admits.
    Ok(format!(
        "# Written by tandem-pkg.\n\
         # Debian's strip can't read Mach-O; nothing is lost, as release builds have no debug information.\n\
         [profile.release]\nstrip = false\n\n\
         [target.{TARGET}]\nrustflags = {rustflags:?}\n\n\
         # In place of mlx-sys's build script. Cargo does not look at what the linker reads; it builds again\n\
         # when a value here changes, such as the key.\n\
         [target.{TARGET}.mlx]\n\
         rustc-link-lib = [\"static=mlxc\", \"dylib=mlx\"]\n\
         rustc-link-search = {search:?}\n\
         rustc-env = {{ OUT_DIR = {:?}, TANDEM_LINK_KEY = {link_key:?} }}\n",
        text(&options.out.join("bindings"))?
    ))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    let text = path.to_str().context("a path that is no text")?;
    anyhow::ensure!(
        !text.contains(|it: char| it.is_whitespace() || it.is_control() || "\"'\\".contains(it)),
        "compilers' options can't hold {text}: move this checkout to a path without spaces and quotes"
    );
    Ok(text)
}

/// An unchanged file keeps its time, by which cargo would build again.
fn write_if_changed(file: &Path, content: &str) -> anyhow::Result<()> {
    if fs::read_to_string(file).is_ok_and(|it| it == content) {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(file, content).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cross::{MIN_OS, OnLinux, OnMac, Sign};

    fn options(root: &str) -> Options {
        let root = PathBuf::from(root);
        Options {
            tools: root.join(".tandem"),
            out: root.join("target/mac"),
            root,
            min_os: MIN_OS,
            sign: Sign::AdHoc,
        }
    }

    fn on_linux() -> Tools {
        Tools::OnLinux(OnLinux {
            bin: "/t/bin".into(),
            zig_lib: "/t/zig".into(),
            bindgen: "/t/bindgen".into(),
            libclang: "/t/lib".into(),
            clang_resources: "/t/lib/clang/1".into(),
            cargo: "/usr/bin/cargo".into(),
            rustc: "/usr/bin/rustc".into(),
        })
    }

    #[test]
    fn the_executable_looks_beside_itself_and_links_the_macs_own_libcpp() {
        let config = config(&on_linux(), &options("/src"), "KEY").unwrap();
        for part in [
            "rustflags = [\"-Clink-arg=-Wl,-rpath,@loader_path\"",
            "\"-Clink-arg=/src/pkg/stubs/lib/libc++.tbd\"]",
            "rustc-link-lib = [\"static=mlxc\", \"dylib=mlx\"]",
            "\"native=/src/.tandem/cross/mlx-metal/mlx/lib\"]",
            "OUT_DIR = \"/src/target/mac/bindings\", TANDEM_LINK_KEY = \"KEY\"",
        ] {
            assert!(config.contains(part), "{part} in {config}");
        }
        assert!(!config.contains("-lc++"), "zig would link its own: {config}");
    }

    #[test]
    fn on_a_mac_no_stub_is_linked() {
        let on_mac = Tools::OnMac(OnMac { sdk: "/sdk".into(), bindgen: "/t/bindgen".into() });
        let config = config(&on_mac, &options("/src"), "KEY").unwrap();
        assert!(config.contains("-Clink-arg=-lc++"), "{config}");
        assert!(!config.contains("stubs"), "{config}");
    }

    #[test]
    fn a_path_that_options_cannot_hold_is_refused() {
        for root in ["/my src", "/a\"b", "/a\\b"] {
            let error = config(&on_linux(), &options(root), "KEY").unwrap_err();
            assert!(error.to_string().contains("move this checkout"), "{error}");
        }
    }
}
