#!/usr/bin/env bash
# Sets up, shows, tests and (on a Mac) explains Tandem. The work is in tests/setup/, a file a subject.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HERE=$ROOT/tests/setup
DATA=$ROOT/.tandem
CHILD=""
TIMES=()

# shellcheck source=tests/setup/pins.sh
. "$HERE/pins.sh"
# shellcheck source=tests/setup/steps.sh
. "$HERE/steps.sh"
# shellcheck source=tests/setup/toolchain.sh
. "$HERE/toolchain.sh"

main() {
  case "${1:-}" in
    toolchain) lock; set_up_toolchain ;;
    *) say "usage: ./install.sh toolchain"; exit 64 ;;
  esac
}

trap stop_child EXIT
main "$@"
