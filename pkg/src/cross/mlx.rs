//! mlx-c for the Mac: the C interface of MLX that mlx-sys wraps, and its bindings.
//!
//! mlx-sys's own build script would build MLX itself, which takes Xcode and half an hour. The wheel has
//! it built by MLX's authors, metallib and JACCL included, so that only mlx-c is compiled here.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use super::command::Invocation;
use super::key::{forget, is_made, key, remember};
use super::metadata::Metadata;
use super::{Options, Tools};

/// Folder with mlx-c's sources, inside the mlx-sys that Cargo.lock names.
///
/// # Errors
/// Cargo knows no such crate, or it was not fetched.
pub(super) fn sources(metadata: &Metadata) -> anyhow::Result<PathBuf> {
    let folder = metadata.package("mlx-sys")?.folder().join("src/mlx-c");
    anyhow::ensure!(
        folder.join("mlx/c").is_dir(),
        "no mlx-c sources in {}: remove that folder from cargo's registry and build again",
        folder.display()
    );
    Ok(folder)
}

/// Makes `mlx-c/libmlxc.a` in the target folder, unless it was made from the same; returns the key of
/// what it was made from.
///
/// # Errors
/// A compiler's.
pub(super) fn build_library(
    tools: &Tools,
    options: &Options,
    mlx_c: &Path,
) -> anyhow::Result<String> {
    let folder = options.out.join("mlx-c");
    let library = folder.join("libmlxc.a");
    let compile = tools
        .compile_cpp(options)
        .arg("-I")
        .arg(mlx_c)
        .arg("-I")
        .arg(options.mlx().join("include"))
        .arg("-c");
    let inputs = files(&mlx_c.join("mlx/c"), &["cpp", "h"])?;
    let key = key(options, &compile, &inputs)?;
    if is_made(&library, &key) {
        return Ok(key);
    }
    forget(&library)?;
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let sources = inputs.iter().filter(|path| has_extension(path, "cpp"));
    let objects = compile_all(&compile, sources, &folder)?;
    match fs::remove_file(&library) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    tools.archive(options).arg(&library).args(objects).run()?;
    remember(&library, &key)?;
    Ok(key)
}

/// Makes `bindings/bindings.rs` in the target folder, unless it was made from the same: with the options
/// of mlx-sys's own build script.
///
/// # Errors
/// bindgen's.
pub(super) fn write_bindings(tools: &Tools, options: &Options, mlx_c: &Path) -> anyhow::Result<()> {
    let folder = options.out.join("bindings");
    let (all, bindings) = (folder.join("all.h"), folder.join("bindings.rs"));
    let invocation = tools
        .bindgen()
        .arg(&all)
        // Nobody reads it, and a rustfmt need not be there.
        .args(["--rust-target", "1.73.0", "--formatter", "none"])
        .args(["--blocklist-function", "malloc"])
        .args(["--blocklist-function", "realloc", "-o"])
        .arg(&bindings)
        .args(["--", "-I"])
        .arg(mlx_c)
        .args(tools.parse_headers(options));
    let headers = files(&mlx_c.join("mlx/c"), &["h"])?;
    let key = key(options, &invocation, &headers)?;
    if is_made(&bindings, &key) {
        return Ok(());
    }
    forget(&bindings)?;
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let includes: String =
        headers.iter().map(|path| format!("#include \"{}\"\n", path.display())).collect();
    fs::write(&all, includes).with_context(|| format!("writing {}", all.display()))?;
    invocation.run()?;
    remember(&bindings, &key)
}

/// Compiles each source, as many at a time as there are processors.
fn compile_all<'a>(
    compile: &Invocation,
    sources: impl Iterator<Item = &'a PathBuf>,
    folder: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let queue: VecDeque<(&PathBuf, PathBuf)> = sources
        .map(|source| {
            let name = source.file_name().unwrap_or_default();
            (source, folder.join(name).with_extension("o"))
        })
        .collect();
    let objects = queue.iter().map(|(_, object)| object.clone()).collect();
    let queue = Mutex::new(queue);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = || {
        while let Some((source, object)) = next() {
            compile.clone().arg(source).arg("-o").arg(object).run()?;
        }
        anyhow::Ok(())
    };
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|it| {
            it.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a compiling thread panicked")))
        })
    })?;
    Ok(objects)
}

/// Files of `folder` with one of these extensions, sorted.
fn files(folder: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if extensions.iter().any(|it| has_extension(&path, it)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|it| it == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_compiled_and_a_compiler_that_fails_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let sources: Vec<PathBuf> =
            (0..9).map(|n| folder.path().join(format!("{n}.cpp"))).collect();
        for source in &sources {
            fs::write(source, "text").unwrap();
        }
        // Called with SOURCE -o OBJECT, as a compiler is.
        let compile = Invocation::new(["sh", "-c", "cp \"$0\" \"$2\""]);
        let objects = compile_all(&compile, sources.iter(), folder.path()).unwrap();
        assert_eq!(objects.len(), sources.len());
        assert!(objects.iter().all(|it| fs::read(it).unwrap() == b"text"));

        let failing = Invocation::new(["sh", "-c", "exit 3"]);
        let error = compile_all(&failing, sources.iter(), folder.path()).unwrap_err();
        assert!(error.to_string().contains("sh failed"), "{error}");
    }

    /// bindgen never sees a `clang`, so this holds also where one is installed.
    #[test]
    fn bindings_for_the_mac_need_no_clang_but_the_library() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::in_checkout(checkout).unwrap();
        options.out = folder.path().join("out");
        let tools = match Tools::find(&options) {
            Ok(tools) => tools,
            Err(missing) => {
                assert!(std::env::var_os("TANDEM_REQUIRE_ALL").is_none(), "{missing}");
                eprintln!("skipped: {missing}");
                return;
            }
        };
        fs::create_dir_all(folder.path().join("mlx/c")).unwrap();
        // The compiler's own headers, one of the system's, and one that asks what the processor can.
        let header = "#include <stdbool.h>\n#include <stddef.h>\n#include <stdio.h>\n\
                      #include <arm_bf16.h>\nbool is_wide(size_t width, bfloat16_t, FILE*);\n";
        fs::write(folder.path().join("mlx/c/one.h"), header).unwrap();
        write_bindings(&tools, &options, folder.path()).unwrap();
        let bindings = fs::read_to_string(options.out.join("bindings/bindings.rs")).unwrap();
        assert!(bindings.contains("fn is_wide"), "{bindings}");
    }
}
