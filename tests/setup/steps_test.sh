#!/usr/bin/env bash
# What steps.sh and demo.sh promise: done steps are skipped, a changed pin redoes its step, a
# failure tells step, cause and remedy, and a stale pid file is not believed.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(mktemp -d)
DATA=$ROOT/.tandem
trap 'rm -rf "$ROOT"' EXIT

# shellcheck source=tests/setup/pins.sh
. "$HERE/pins.sh"
# shellcheck source=tests/setup/steps.sh
. "$HERE/steps.sh"
# shellcheck source=tests/setup/unpacked.sh
. "$HERE/unpacked.sh"
# shellcheck source=tests/setup/demo.sh
. "$HERE/demo.sh"
mkdir -p "$DATA/stamps" "$DATA/logs" "$DEMO"

PASSED=0
FAILURES=0

# expect WHAT EXPECTED ACTUAL: the actual text must contain the expected one.
expect() {
  case $3 in
    *"$2"*) PASSED=$((PASSED + 1)) ;;
    *)
      FAILURES=$((FAILURES + 1))
      say "not so: $1"
      say "  expected: $2"
      say "  got:      $3"
      ;;
  esac
}

write_result() { echo once >>"$ROOT/result"; }
fail_in_the_middle() {
  echo "the cause, as the tool put it"
  false
  echo "never reached"
}
leave_nothing() { true; }

out=$(step brew key-1 "$ROOT/result" "a remedy" write_result)
expect "a new step runs" "brew: done in" "$out"
out=$(step brew key-1 "$ROOT/result" "a remedy" write_result)
expect "a done step is skipped, in one line" "  brew: done before" "$out"
out=$(step brew key-2 "$ROOT/result" "a remedy" write_result)
expect "another key redoes it" "brew: done in" "$out"
rm "$ROOT/result"
out=$(step brew key-2 "$ROOT/result" "a remedy" write_result)
expect "a result that was removed is made again" "brew: done in" "$out"
expect "each run did the work once" "1" "$(grep -c once "$ROOT/result")"

# Not `|| true`: bash would then ignore the failing line inside the step (see watch_step).
set +e
out=$(step burn key-1 "$ROOT/never" "turn it off" fail_in_the_middle 2>&1; echo "went on")
set -e
expect "a failed step is named" "FAILED: burn (exit code 1)" "$out"
expect "with the tool's last words" "| the cause, as the tool put it" "$out"
expect "its log" "$DATA/logs/burn.log" "$out"
expect "and what to do" "remedy: turn it off" "$out"
expect "it stopped at the line that failed" "absent" \
  "$(grep -q 'never reached' "$DATA/logs/burn.log" || echo absent)"
expect "and set-up stopped there" "absent" "$(grep -q 'went on' <<<"$out" || echo absent)"
expect "a failed step leaves no stamp" "absent" "$([ -e "$DATA/stamps/burn" ] || echo absent)"

out=$(step hollow key-1 "$ROOT/never" "a remedy" leave_nothing 2>&1) || true
expect "a step that makes nothing has failed" "it ended well but left no $ROOT/never" "$out"

wait_for_the_other() { until [ -e "$ROOT/other" ]; do sleep 0.1; done; }
do_the_other() { touch "$ROOT/other"; }
tell_rc() { say "$1 ended with $STEP_RC"; }
beside patient wait_for_the_other >/dev/null
beside burnt fail_in_the_middle >/dev/null
# Brings what the first waits for.
watch_step other do_the_other >/dev/null
each_beside tell_rc >"$ROOT/told"
expect "a step runs beside others" "patient ended with 0" "$(cat "$ROOT/told")"
expect "and its failure is told" "burnt ended with 1" "$(cat "$ROOT/told")"

# As a shell does that has run a great many processes since.
beside remembered do_the_other >/dev/null
beside burnt fail_in_the_middle >/dev/null
until [ -e "$(exit_file remembered)" ] && [ -e "$(exit_file burnt)" ]; do sleep 0.1; done
disown -a
each_beside tell_rc >"$ROOT/told" 2>&1
expect "a step that the shell forgot ended well" "remembered ended with 0" "$(cat "$ROOT/told")"
expect "or not" "burnt ended with 1" "$(cat "$ROOT/told")"
expect "and nobody complains" "silence" "$(grep -q 'not a child' "$ROOT/told" || echo silence)"

die() { kill -KILL "$BASHPID"; }
die_whole() { kill -KILL 0; }
watch_step killed die >/dev/null 2>&1
expect "a step that was killed has failed" "137" "$STEP_RC"
watch_step killed die_whole >/dev/null 2>&1
expect "also if all of it was" "137" "$STEP_RC"

expect "no pid file is no demo" "none" "$(demo_pid || echo none)"
echo $$ >"$DEMO/supervise.pid"
expect "a pid file that names another program is no demo" "none" "$(demo_pid || echo none)"
expect "stopping what does not run says so" "No demo is running." "$(stop_demo)"

# What needs apt is there on Linux only.
# shellcheck source=tests/setup/unpacked_test.sh
! command -v apt-get >/dev/null || . "$HERE/unpacked_test.sh"

say "$PASSED passed, $FAILURES failed"
[ "$FAILURES" -eq 0 ]
