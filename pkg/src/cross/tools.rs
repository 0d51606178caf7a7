//! The tools that build, on Linux and on a Mac.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::command::Invocation;
use super::{Options, TARGET};

/// Where the build's tools are.
#[derive(Clone, Debug)]
pub enum Tools {
    /// zig, cargo-zigbuild and Debian's Rust.
    OnLinux(OnLinux),
    /// Xcode's tools and the Rust on PATH.
    OnMac(OnMac),
}

/// On Linux.
#[derive(Clone, Debug)]
pub struct OnLinux {
    /// Folder with `zig`, `zig-ar` and `cargo-zigbuild`.
    pub bin: PathBuf,
    /// zig's own folder of headers and library stubs.
    pub zig_lib: PathBuf,
    /// `bindgen`.
    pub bindgen: PathBuf,
    /// libclang, which bindgen parses with.
    pub libclang: PathBuf,
    /// The folder above that compiler's own headers, such as `include/stdbool.h`.
    pub clang_resources: PathBuf,
    /// Debian's cargo, which comes with the standard library's source.
    pub cargo: PathBuf,
    /// The compiler of the same version.
    pub rustc: PathBuf,
}

/// On a Mac.
#[derive(Clone, Debug)]
pub struct OnMac {
    /// Apple's SDK.
    pub sdk: PathBuf,
    /// `bindgen`.
    pub bindgen: PathBuf,
}

/// Where Debian has the libclang that tests/setup/pins.sh names.
const LIBCLANG: &str = "/usr/lib/llvm-14/lib";

/// The compiler's own headers lie beside its library, in a folder that is named after the version; without
/// one, where they would be.
fn clang_resources(libclang: &Path) -> PathBuf {
    let versions = libclang.join("clang");
    let found = std::fs::read_dir(&versions).into_iter().flatten().flatten().map(|it| it.path());
    found.max().unwrap_or(versions)
}

impl Tools {
    /// Finds them.
    ///
    /// # Errors
    /// One is not there.
    pub fn find(options: &Options) -> anyhow::Result<Self> {
        let bindgen = options.tools.join("tools/bin/bindgen");
        let found = if cfg!(target_os = "macos") {
            let sdk = Invocation::new(["xcrun", "--sdk", "macosx", "--show-sdk-path"]).output()?;
            Self::OnMac(OnMac { sdk: PathBuf::from(sdk.trim()), bindgen })
        } else {
            Self::OnLinux(OnLinux {
                bin: options.tools.join("cross/bin"),
                zig_lib: options.tools.join("cross/zig/ziglang/lib"),
                bindgen,
                libclang: LIBCLANG.into(),
                clang_resources: clang_resources(Path::new(LIBCLANG)),
                cargo: "/usr/bin/cargo".into(),
                rustc: "/usr/bin/rustc".into(),
            })
        };
        for path in found.needed() {
            if !path.exists() {
                bail!("{} is missing: ./install.sh package brings it", path.display());
            }
        }
        Ok(found)
    }

    fn needed(&self) -> Vec<PathBuf> {
        match self {
            Self::OnLinux(it) => {
                let mut needed = vec![
                    it.zig_lib.clone(),
                    it.bindgen.clone(),
                    it.clang_resources.join("include/stdbool.h"),
                    it.cargo.clone(),
                    it.rustc.clone(),
                    "/usr/lib/rustlib/src/rust/library/std".into(),
                ];
                needed.extend(["zig", "zig-ar", "cargo-zigbuild"].map(|name| it.bin.join(name)));
                needed
            }
            Self::OnMac(it) => vec![it.bindgen.clone(), it.sdk.clone()],
        }
    }

    /// The C++ compiler set to the Mac, with what a header needs to know of the Mac's libc++.
    pub(super) fn compile_cpp(&self, options: &Options) -> Invocation {
        let min_os = options.min_os_text();
        let compiler = match self {
            // zig's headers are of a newer libc++ than the Mac's: without this macro they count on symbols
            // that only the newer one has.
            Self::OnLinux(it) => Invocation::new([it.bin.join("zig")])
                .args(["c++", "-target", &format!("aarch64-macos.{min_os}-none")])
                .args([
                    "-U_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS",
                    "-D_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS=1",
                ])
                .with_zig_cache(options),
            Self::OnMac(_) => Invocation::new(["xcrun", "clang++", "-target"])
                .arg(format!("arm64-apple-macos{min_os}")),
        };
        compiler.args(["-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden"])
    }

    /// Writes object files into a new static library: `ARCHIVE OBJECT...` follow.
    pub(super) fn archive(&self, options: &Options) -> Invocation {
        match self {
            Self::OnLinux(it) => {
                Invocation::new([it.bin.join("zig-ar")]).arg("rcs").with_zig_cache(options)
            }
            Self::OnMac(_) => Invocation::new(["xcrun", "libtool", "-static", "-o"]),
        }
    }

    /// bindgen, without its arguments.
    pub(super) fn bindgen(&self) -> Invocation {
        match self {
            // It would ask a clang or an llvm-config on PATH, of whatever version, for headers and library.
            Self::OnLinux(it) => Invocation::new([&it.bindgen])
                .env("LIBCLANG_PATH", &it.libclang)
                .env("PATH", "")
                .without(&["BINDGEN_EXTRA_CLANG_ARGS", "CLANG_PATH", "LLVM_CONFIG_PATH"]),
            Self::OnMac(it) => Invocation::new([&it.bindgen]),
        }
    }

    /// Options for clang's parser, when bindgen reads headers for the Mac.
    pub(super) fn parse_headers(&self, options: &Options) -> Vec<OsString> {
        let target = format!("--target=arm64-apple-macos{}", options.min_os_text());
        match self {
            Self::OnLinux(it) => vec![
                target.into(),
                // Debian's clang 14 knows bfloat16 from this architecture on only.
                "-march=armv8.6-a".into(),
                "-nostdlibinc".into(),
                // libclang alone looks for them in places that this leaves out.
                "-resource-dir".into(),
                it.clang_resources.clone().into(),
                "-isystem".into(),
                it.zig_lib.join("libc/include/any-darwin-any").into(),
            ],
            Self::OnMac(it) => vec![target.into(), "-isysroot".into(), it.sdk.clone().into()],
        }
    }

    /// Cargo, up to and with the sub-command that builds for the Mac, and its environment.
    pub(super) fn cargo_build(&self, options: &Options) -> anyhow::Result<Invocation> {
        let invocation = match self {
            Self::OnLinux(it) => Invocation::new([it.bin.join("cargo-zigbuild")])
                .args(["zigbuild", "-Zbuild-std=std,panic_abort", "--target", TARGET])
                .env("CARGO", &it.cargo)
                .env("RUSTC", &it.rustc)
                .env("PATH", path_before(&it.bin, Path::new("/usr/bin"))?)
                // -Zbuild-std is not stable; Debian's Rust has the source that it builds beside it.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CFLAGS_aarch64_apple_darwin", include_stubs(options)?)
                .env("AR_aarch64_apple_darwin", it.bin.join("zig-ar"))
                .env("CARGO_ZIGBUILD_CACHE_DIR", options.out.join("zigbuild"))
                .with_zig_cache(options),
            Self::OnMac(_) => Invocation::new(["cargo", "build", "--target", TARGET]),
        };
        let invocation = invocation.env("MACOSX_DEPLOYMENT_TARGET", options.min_os_text());
        // From a `cargo run` around this program, or a user's own; they would change what is built.
        Ok(invocation.without(&[
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "RUSTUP_TOOLCHAIN",
            "RUSTC_WRAPPER",
            "SDKROOT",
            "LD_LIBRARY_PATH",
            "CFLAGS",
            "CXXFLAGS",
        ]))
    }

    /// Folder with the licences of Rust's standard library, which is linked too.
    pub(super) fn std_licenses(&self) -> anyhow::Result<PathBuf> {
        match self {
            Self::OnLinux(_) => Ok("/usr/lib/rustlib/src/rust".into()),
            Self::OnMac(_) => {
                let sysroot = Invocation::new(["rustc", "--print", "sysroot"]).output()?;
                Ok(Path::new(sysroot.trim()).join("share/doc/rust"))
            }
        }
    }

    /// `.tbd` files that tell which symbols the Mac's own libraries have.
    #[must_use]
    pub fn interfaces(&self, options: &Options) -> Interfaces {
        match self {
            Self::OnLinux(it) => Interfaces {
                lib: vec![options.stubs().join("lib"), it.zig_lib.join("libc/darwin")],
                frameworks: options.stubs().join("Frameworks"),
            },
            Self::OnMac(it) => Interfaces {
                lib: vec![it.sdk.join("usr/lib")],
                frameworks: it.sdk.join("System/Library/Frameworks"),
            },
        }
    }
}

/// Folders of `.tbd` files.
#[derive(Clone, Debug)]
pub struct Interfaces {
    /// With `libX.tbd`.
    pub lib: Vec<PathBuf>,
    /// With `X.framework/X.tbd`.
    pub frameworks: PathBuf,
}

impl Invocation {
    /// zig keeps what it compiled in the target folder, so that cleaning that cleans all.
    fn with_zig_cache(self, options: &Options) -> Self {
        let cache = options.out.join("zig");
        self.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache)
    }
}

fn include_stubs(options: &Options) -> anyhow::Result<OsString> {
    let folder = options.stubs().join("include");
    let text = folder.to_str().context("a path that is no text")?;
    anyhow::ensure!(
        !text.contains(char::is_whitespace),
        "compilers' options can't hold {text}: move this checkout to a path without spaces"
    );
    Ok(format!("-isystem {text}").into())
}

/// PATH with these two folders first.
fn path_before(first: &Path, second: &Path) -> anyhow::Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [first.to_owned(), second.to_owned()];
    std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path)))
        .context("a folder's name in PATH")
}
