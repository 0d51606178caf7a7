# shellcheck shell=bash
# Brings what the build needs on Linux: Debian's packages, Rust, MLX's library, mlx-c, its bindings.
#
# mlx-sys can build itself only on a Mac. Cargo's build-script override (`links = "mlx"`) takes the
# place of its build script, so that the crate stays as it is in the registry; what that script
# would have made (libmlxc.a, bindings.rs) is made here, from the crate's own sources.

set_up_toolchain() {
  check_machine
  PATH="$PATH:$HOME/.cargo/bin"
  if rust_is_new_enough; then
    debian_packages "$DEBIAN_BUILD $DEBIAN_RUN"
  else
    debian_packages "$DEBIAN_BUILD $DEBIAN_RUN $DEBIAN_RUST"
  fi
  find_rust
  python_venv
  step mlx-library "$(key "$MLX_WHEEL_SHA256")" "$DATA/mlx/mlx/lib/libmlx.so" \
    "check the connection to the Python package index (pip's settings), then run this again" \
    fetch_mlx
  step openblas "$(key "$MLX_WHEEL_SHA256" "$(openblas_path)")" "$DATA/mlx/mlx_cpu.libs" \
    "apt-get install --reinstall libopenblas0-pthread, then run this again" use_openblas
  find_mlx_sys
  step mlx-c "$(key "$MLX_WHEEL_SHA256" "$MLX_SYS" "$(key_of_files "$HERE/mlxc-linux.h")")" \
    "$DATA/mlxc/libmlxc.a" "read the compiler's message in the log; it needs 1 GB of memory" \
    build_mlxc
  step bindgen "$(key "$BINDGEN_VERSION")" "$DATA/tools/bin/bindgen" \
    "check the connection to the Rust package registry, then run this again" install_bindgen
  step bindings "$(key "$BINDGEN_VERSION" "$MLX_SYS")" "$DATA/bindings/bindings.rs" \
    "apt-get install --reinstall libclang-14-dev, then run this again" write_bindings
  step cargo-config "$(key "$ROOT" "$(key_of_files "$HERE/toolchain.sh")")" \
    "$ROOT/.cargo/config.toml" "see that $ROOT can be written" write_cargo_config
}

check_machine() {
  [ "$(uname -m)" = x86_64 ] || fail machine "this is $(uname -m)" \
    "the Linux set-up is pinned and tried for x86-64 only; use such a machine"
  command -v apt-get >/dev/null || fail machine "no apt-get: this is not a Debian system" \
    "use Debian 12, or install by hand: $DEBIAN_BUILD $DEBIAN_RUN, and Rust 1.$RUST_MIN_MINOR"
}

# debian_packages "NAME...": installs the ones that are missing, and only those.
debian_packages() {
  local name missing="" by_hand
  for name in $1; do
    dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed ||
      missing="$missing $name"
  done
  if [ -z "$missing" ]; then
    say "  debian-packages: all there"
    return
  fi
  by_hand="as root: apt-get update && apt-get install --no-install-recommends$missing"
  ask_for_root debian-packages "$by_hand"
  APT_MISSING=$missing
  always debian-packages "if the network or /etc/apt is at fault, mend it and run this again; \
if it would remove packages, decide that yourself, $by_hand" apt_install
}

apt_install() {
  local -a names
  read -r -a names <<<"$APT_MISSING"
  # Somebody else's archive may be away; what is missing here is Debian's own.
  as_root apt-get update -q || echo "Some lists could not be had; perhaps the others do."
  # What somebody chose (another rustc, say) is not ours to remove.
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends --no-remove "${names[@]}"
}

# Puts a cargo that is new enough first on PATH: the user's own, or Debian's.
find_rust() {
  hash -r
  rust_is_new_enough || PATH="/usr/bin:$PATH"
  rust_is_new_enough || fail rust "Debian's own Rust is older than 1.$RUST_MIN_MINOR" \
    "enable Debian's security updates in /etc/apt (rustc-web is there), then run this again"
  export PATH
  say "  rust: $(rustc --version) ($(command -v cargo))"
  # These would replace the rustflags of .cargo/config.toml and with them MLX's place.
  unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
}

rust_is_new_enough() {
  local version minor
  version=$(rustc --version 2>/dev/null) && cargo --version >/dev/null 2>&1 || return 1
  minor=${version#rustc 1.}
  minor=${minor%%.*}
  [ "$minor" -ge "$RUST_MIN_MINOR" ] 2>/dev/null
}

# Debian's own pip refuses to work outside a virtual environment.
python_venv() {
  step python-venv "$(key "$ROOT" "$(python3 --version)")" "$DATA/venv/bin/pip" \
    "apt-get install python3-venv, then run this again" make_venv
}

make_venv() {
  rm -rf "$DATA/venv"
  python3 -m venv "$DATA/venv"
}

# fetch_wheel PIN SHA256 FOLDER [PIP'S OPTION...]: downloads one wheel, checked by hash, and unpacks it
# as FOLDER.
fetch_wheel() {
  local wheels=$DATA/wheels/$2
  rm -rf "$wheels" "$3.part" "$3"
  mkdir -p "$wheels"
  printf '%s --hash=sha256:%s\n' "$1" "$2" >"$wheels/pin.txt"
  "$DATA/venv/bin/pip" download --no-deps --only-binary :all: --require-hashes \
    --progress-bar off -d "$wheels" -r "$wheels/pin.txt" "${@:4}"
  "$DATA/venv/bin/python" -m zipfile -e "$wheels"/*.whl "$3.part"
  mv "$3.part" "$3"
  rm -rf "$wheels"
}

fetch_mlx() { fetch_wheel "$MLX_WHEEL" "$MLX_WHEEL_SHA256" "$DATA/mlx"; }

openblas_path() { echo /usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0; }

# The wheel's libmlx.so and liblapack ask for libblas-HASH.so by this name and no other.
use_openblas() {
  local blas
  [ -e "$(openblas_path)" ]
  for blas in "$DATA"/mlx/mlx_cpu.libs/libblas-*.so*; do
    [ -e "$blas" ] || [ -L "$blas" ]
    ln -sfn "$(openblas_path)" "$blas"
  done
}

# Where cargo unpacked the mlx-sys that Cargo.lock names (it checked the hash).
find_mlx_sys() {
  always cargo-fetch "if Cargo.lock is what it complains of: git status Cargo.toml Cargo.lock; \
otherwise check the connection to the Rust package registry" fetch_crates
  MLX_SYS=$(cd "$ROOT" && cargo metadata --format-version 1 --locked --offline |
    python3 -c 'import json, os, sys
for p in json.load(sys.stdin)["packages"]:
    if p["name"] == "mlx-sys":
        print(os.path.dirname(p["manifest_path"]))')
  [ -d "$MLX_SYS/src/mlx-c/mlx/c" ] || fail mlx-c "no mlx-c sources in ${MLX_SYS:-mlx-sys}" \
    "remove that folder from cargo's registry, then run this again"
}

fetch_crates() { cd "$ROOT" && cargo fetch --locked; }

build_mlxc() {
  rm -rf "$DATA/mlxc"
  cmake -G Ninja -S "$MLX_SYS/src/mlx-c" -B "$DATA/mlxc" \
    -DCMAKE_BUILD_TYPE=Release -DMLX_C_USE_SYSTEM_MLX=ON -DMLX_C_BUILD_EXAMPLES=OFF \
    -DCMAKE_PREFIX_PATH="$DATA/mlx/mlx" \
    -DCMAKE_C_FLAGS="-include $HERE/mlxc-linux.h" \
    -DCMAKE_CXX_FLAGS="-include $HERE/mlxc-linux.h"
  cmake --build "$DATA/mlxc" --target mlxc
}

# Unoptimised and without its formatter: it runs for a second, but compiled for two minutes.
install_bindgen() {
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 cargo install bindgen-cli --version "$BINDGEN_VERSION" \
    --locked --no-default-features --features runtime \
    --root "$DATA/tools" --target-dir "$DATA/tools/build"
  rm -rf "$DATA/tools/build"
}

# The same options as mlx-sys's own build script, and clang set to 64-bit Arm: mlx-rs is written
# for the half types as bindgen sees them there. C's own types are the same on both.
write_bindings() {
  local header out=$DATA/bindings
  mkdir -p "$out"
  for header in "$MLX_SYS"/src/mlx-c/mlx/c/*.h; do
    printf '#include "%s"\n' "$header"
  done >"$out/all.h"
  # With nothing of the user's environment: bindgen would look in it for another clang.
  env -i LIBCLANG_PATH="$LIBCLANG" "$DATA/tools/bin/bindgen" "$out/all.h" --rust-target 1.73.0 \
    --formatter none --blocklist-function malloc --blocklist-function realloc -o "$out/bindings.part" -- \
    -resource-dir "$(clang_resources)" -I"$MLX_SYS/src/mlx-c" --target=aarch64-unknown-linux-gnu -march=armv8.6-a \
    -I/usr/include/x86_64-linux-gnu -D__x86_64__
  grep -q mlx_distributed_all_sum "$out/bindings.part"
  mv "$out/bindings.part" "$out/bindings.rs"
}

# The folder of the compiler's own headers, such as stdbool.h.
clang_resources() { dirname "$(dirname "$(ls "$LIBCLANG"/clang/*/include/stdbool.h)")"; }

write_cargo_config() {
  mkdir -p "$ROOT/.cargo"
  cat >"$ROOT/.cargo/config.toml" <<CONFIG
# Written by install.sh; not in git, because the paths are this checkout's.
[target.$TARGET]
rustflags = ["-C", "link-arg=-Wl,-rpath,$DATA/mlx/mlx/lib"]

# In place of mlx-sys's build script, which can run on a Mac only.
[target.$TARGET.mlx]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=stdc++"]
rustc-link-search = ["native=$DATA/mlxc", "native=$DATA/mlx/mlx/lib"]
rustc-env = { OUT_DIR = "$DATA/bindings" }
CONFIG
}
