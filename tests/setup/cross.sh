# shellcheck shell=bash
# Brings what builds Tandem for a Mac (pkg/README.md), and builds the package.

set_up_cross() {
  if [ "$(uname)" = Darwin ]; then
    # mlx-c is compiled against MLX's wheel there too, so that the product holds the same MLX.
    find_mlx_sys
    step bindgen "$(key "$BINDGEN_VERSION")" "$DATA/tools/bin/bindgen" \
      "check the connection to the Rust package registry, then run this again" install_bindgen
  else
    debian_packages "$DEBIAN_CROSS"
    step zig "$(key "$ZIG_WHEEL_SHA256" "$ZIGBUILD_WHEEL_SHA256")" "$DATA/cross/bin/zig" \
      "check the connection to the Python package index, then run this again" fetch_zig
  fi
  step mlx-metal "$(key "$MLX_METAL_WHEEL_SHA256")" "$DATA/cross/mlx-metal/mlx/lib/mlx.metallib" \
    "check the connection to the Python package index, then run this again" fetch_mlx_metal
  # By this file the builder knows that what it compiled is out of date.
  printf '%s\n' "$MLX_METAL_WHEEL_SHA256" "$ZIG_WHEEL_SHA256" "$BINDGEN_VERSION" |
    write_if_changed "$DATA/cross/pins"
}

# zig finds its own folder by its real path. cargo-zigbuild and the cc crate call these by name.
fetch_zig() {
  local bin=$DATA/cross/bin program
  mkdir -p "$DATA/cross"
  rm -rf "$bin"
  fetch_wheel "$ZIG_WHEEL" "$ZIG_WHEEL_SHA256" "$DATA/cross/zig"
  fetch_wheel "$ZIGBUILD_WHEEL" "$ZIGBUILD_WHEEL_SHA256" "$DATA/cross/zigbuild"
  mkdir "$bin"
  for program in "$DATA"/cross/zigbuild/*.data/scripts/cargo-zigbuild "$DATA/cross/zig/ziglang/zig"; do
    # Unpacking a wheel by hand leaves this bit out.
    chmod +x "$program"
    ln -s "$program" "$bin/"
  done
  # GNU ar writes no index for Mach-O, without which the linker finds nothing.
  printf '#!/bin/sh\nexec "%s/zig" ar "$@"\n' "$bin" >"$bin/zig-ar"
  chmod +x "$bin/zig-ar"
}

fetch_mlx_metal() {
  mkdir -p "$DATA/cross"
  fetch_wheel "$MLX_METAL_WHEEL" "$MLX_METAL_WHEEL_SHA256" "$DATA/cross/mlx-metal" \
    --platform "$MLX_METAL_PLATFORM"
}

# write_if_changed FILE: standard input to it; the same content leaves its time as it was.
write_if_changed() {
  local content
  content=$(cat)
  [ "$(cat "$1" 2>/dev/null)" = "$content" ] || printf '%s\n' "$content" >"$1"
}

build_package() {
  cd "$ROOT" || return
  cargo run --locked --quiet -p tandem-pkg -- build "$@"
}
