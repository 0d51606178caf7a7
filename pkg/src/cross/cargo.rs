//! Cargo, set to the Mac by a generated config file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Options, TARGET, Tools};

/// Builds `tandem` and returns the linked executable.
///
/// # Errors
/// Cargo's, or a path can't be written into its config.
pub(super) fn build(tools: &Tools, options: &Options) -> anyhow::Result<PathBuf> {
    let file = options.out.join("config.toml");
    write_if_changed(&file, &config(tools, options)?)?;
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
fn config(tools: &Tools, options: &Options) -> anyhow::Result<String> {
    let stubs = options.stubs();
    let mut rustflags = vec!["-Clink-arg=-Wl,-rpath,@loader_path".to_owned()];
    match tools {
        Tools::OnLinux(_) => {
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
         # In place of mlx-sys's build script.\n\
         [target.{TARGET}.mlx]\n\
         rustc-link-lib = [\"static=mlxc\", \"dylib=mlx\"]\n\
         rustc-link-search = {search:?}\n\
         rustc-env = {{ OUT_DIR = {:?} }}\n",
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
