# shellcheck shell=bash
# On a Mac the crates build themselves: mlx-sys's own build script makes MLX with Xcode's tools.
# So nothing is overridden here; these are only the checks that turn its errors into advice.

set_up_mac() {
  xcode-select -p >/dev/null 2>&1 ||
    fail xcode "no Xcode tools are selected" "xcode-select --install, then run this again"
  xcrun -find metal >/dev/null 2>&1 ||
    fail xcode "Xcode has no Metal compiler" "xcodebuild -downloadComponent MetalToolchain"
  command -v cmake >/dev/null || fail cmake "it is not on PATH" "brew install cmake"
  PATH="$PATH:$HOME/.cargo/bin"
  rust_is_new_enough || fail rust "no Rust 1.$RUST_MIN_MINOR or newer on PATH" \
    "install it with rustup, then run this again"
  say "  rust: $(rustc --version) ($(command -v cargo))"
  python_venv
}
