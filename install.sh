#!/usr/bin/env bash
# Sets up, shows and tests Tandem. The work is in tests/setup/, one subject a file.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HERE=$ROOT/tests/setup
# All that set-up makes is here and in target/, both ignored by git; removing them undoes it.
DATA=$ROOT/.tandem

# shellcheck source=tests/setup/pins.sh
. "$HERE/pins.sh"
# shellcheck source=tests/setup/steps.sh
. "$HERE/steps.sh"
# shellcheck source=tests/setup/root.sh
. "$HERE/root.sh"
# shellcheck source=tests/setup/toolchain.sh
. "$HERE/toolchain.sh"
# shellcheck source=tests/setup/mac.sh
. "$HERE/mac.sh"
# shellcheck source=tests/setup/cross.sh
. "$HERE/cross.sh"
# shellcheck source=tests/setup/demo.sh
. "$HERE/demo.sh"
# shellcheck source=tests/setup/unpacked.sh
. "$HERE/unpacked.sh"
# shellcheck source=tests/setup/checks.sh
. "$HERE/checks.sh"
# shellcheck source=tests/setup/appliance.sh
. "$HERE/appliance.sh"

usage() {
  cat <<'USAGE'
Tandem serves one language model from two machines through OpenAI's API.

  ./install.sh demo       set up what is missing, start a pair of ranks on this machine with a
                          small model, and show one answer (the first time takes some minutes)
  ./install.sh stop       stop that demo
  ./install.sh test       set up what is missing and run everything that must pass
  ./install.sh package    set up what is missing and build the installer package for Macs; what
                          follows goes to tandem-pkg (--identity NAME; see pkg/README.md)
  ./install.sh toolchain  only set up what building needs; afterwards cargo works as usual
  ./install.sh help       this text

On a Mac, which it makes an appliance of:

  sudo ./install.sh [--pkg FILE] [--config FILE] [--model NAME] [--pair init|HOST]
                          check the Mac, install or upgrade the package, start it, and wait until it
                          serves or say what keeps it. --model takes a folder's name in
                          /usr/local/var/tandem/models, a folder, or a GGUF file to import; --pair init
                          shows a code, --pair HOST asks for it
  sudo ./install.sh --uninstall [--purge]
                          remove it; --purge also removes config, models, state and logs

Linux (Debian 12, x86-64) is for trying and developing: MLX runs on the CPU there. What these
commands need is fetched by pinned version and kept in .tandem/ and target/; only Debian packages
are installed outside this folder. For those, and for tests that only root can run, it asks sudo.
USAGE
}

set_up() {
  case "$ROOT" in
    *[[:space:]\"\']*) fail folder "compilers' options can't hold a path like $ROOT" \
      "move this checkout to a path without spaces and quotes" ;;
  esac
  if [ "$(uname)" = Darwin ]; then
    set_up_mac
  else
    set_up_toolchain
  fi
}

main() {
  case "${1:-}" in
    --help) ;;
    -*) appliance "$@" && return ;;
    "")
      if [ "$(uname)" = Darwin ]; then
        appliance
        return
      fi
      ;;
  esac
  [ $# -le 1 ] || [ "$1" = package ] || { usage >&2 && exit 64; }
  case "${1:-}" in
    demo)
      lock
      demo
      ;;
    stop) stop_demo ;;
    test)
      lock
      run_checks
      ;;
    toolchain)
      lock
      set_up
      ;;
    package)
      lock
      # The package's path is all that goes to standard output.
      {
        set_up
        set_up_cross
      } >&2
      build_package "${@:2}"
      ;;
    help | --help | "") usage ;;
    *)
      say "install.sh: there is no command '$1'" >&2
      usage >&2
      exit 64
      ;;
  esac
}

trap stop_child EXIT
trap 'exit 130' INT TERM
main "$@"
