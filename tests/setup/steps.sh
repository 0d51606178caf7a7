# shellcheck shell=bash
# Runs the set-up's steps: each is skipped when done, watched while it runs, and explained when it fails.
#
# A step is done when its stamp holds the key of everything it depends on (versions, hashes, paths)
# and its result still exists. Changing a pin in pins.sh therefore redoes just what hangs on it.

# The last step's remedy and its log; `explain` reads them when a step fails.
STEP_REMEDY=""
STEP_LOG=""

say() { printf '%s\n' "$*"; }

# fail STEP CAUSE REMEDY: the form of every message with which this script gives up.
fail() {
  {
    say ""
    say "FAILED: $1"
    say "  cause:  $2"
    say "  remedy: $3"
  } >&2
  exit 1
}

# key ARG...: one short word that changes when any argument does.
key() { printf '%s\n' "$@" | sha256sum | cut -c1-16; }

# key_of_files FILE...: the same, over contents.
key_of_files() { cat -- "$@" | sha256sum | cut -c1-16; }

# stamped NAME KEY RESULT: whether the step was done with this key and its result is still there.
stamped() {
  [ -e "$3" ] && [ "$(cat "$DATA/stamps/$1" 2>/dev/null)" = "$2" ]
}

# step NAME KEY RESULT REMEDY FUNCTION: the function runs once for each key, in a subshell.
step() {
  local name=$1 step_key=$2 result=$3
  STEP_REMEDY=$4
  if stamped "$name" "$step_key" "$result"; then
    say "  $name: done before"
    return
  fi
  watch_step "$name" "$5"
  [ -e "$result" ] || fail "$name" "it ended well but left no $result" "see $STEP_LOG"
  printf '%s\n' "$step_key" >"$DATA/stamps/$name"
}

# always NAME REMEDY FUNCTION: a step without a stamp, for work that keeps its own (cargo, tests).
always() {
  STEP_REMEDY=$2
  watch_step "$1" "$3"
}

# watch_step NAME FUNCTION: runs it with its output in a log; says where it is every 15 s.
watch_step() {
  local name=$1 began=$SECONDS said=$SECONDS pid rc=0
  STEP_LOG=$DATA/logs/$name.log
  say "  $name: started (log: $STEP_LOG)"
  (
    set -euo pipefail
    "$2"
  ) >"$STEP_LOG" 2>&1 9>&- &
  pid=$!
  CHILD=$pid
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - said)) -ge 15 ]; then
      said=$SECONDS
      say "  $name: $((SECONDS - began)) s: $(last_line)"
    fi
  done
  wait "$pid" || rc=$?
  CHILD=""
  [ "$rc" -eq 0 ] || explain "$name" "$rc"
  say "  $name: done in $((SECONDS - began)) s"
  TIMES+=("$name $((SECONDS - began))")
}

# The newest line of the log that says something, cut to a screen's width.
last_line() { tr '\r' '\n' <"$STEP_LOG" | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c1-100; }

explain() {
  {
    say ""
    say "FAILED: $1 (exit code $2). The last lines of its log:"
    tail -n "${TANDEM_LOG_LINES:-25}" "$STEP_LOG" | sed 's/^/    | /'
    say "  log:    $STEP_LOG"
    say "  remedy: $STEP_REMEDY"
  } >&2
  exit 1
}

# One set-up at a time in a checkout: two would write the same files.
lock() {
  mkdir -p "$DATA/stamps" "$DATA/logs"
  exec 9>"$DATA/lock"
  flock -n 9 || {
    say "another ./install.sh is at work in this checkout; waiting for it (at most an hour)"
    flock -w 3600 9 || fail "lock" "it still holds $DATA/lock" "end it, then run this again"
  }
}

# Ctrl-C must not leave a compiler at work in the background.
stop_child() { [ -z "${CHILD:-}" ] || kill "$CHILD" 2>/dev/null || true; }
