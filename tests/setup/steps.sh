# shellcheck shell=bash
# Runs the set-up's steps: skipped when done, watched while at work, explained when they fail.
#
# A step is done when its stamp holds the key of everything it depends on (versions, hashes, paths)
# and its result still exists. Changing a pin in pins.sh therefore redoes just what hangs on it.

# Of the newest step: its log, its exit code; and its process while it runs.
STEP_LOG=""
STEP_RC=0
CHILD=""
# Steps that others run beside: name, process and start of each. (A Mac's bash takes an empty array
# for an unset one, hence the way in which it is read.)
BESIDE=()

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
key() { printf '%s\n' "$@" | sha256 | cut -c1-16; }

# key_of_files FILE...: the same, over contents.
key_of_files() { cat -- "$@" | sha256 | cut -c1-16; }

# Debian has the first, a Mac the second.
sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# stamped NAME KEY RESULT: whether the step was done with this key and its result is still there.
stamped() {
  [ -e "$3" ] && [ "$(cat "$DATA/stamps/$1" 2>/dev/null)" = "$2" ]
}

# step NAME KEY RESULT REMEDY FUNCTION: the function runs once for each key, in a subshell.
step() {
  local name=$1 step_key=$2 result=$3
  if stamped "$name" "$step_key" "$result"; then
    say "  $name: done before"
    return
  fi
  watch_step "$name" "$5"
  [ "$STEP_RC" -eq 0 ] || { explain "$name" "$4" && exit 1; }
  [ -e "$result" ] || fail "$name" "it ended well but left no $result" "see $STEP_LOG"
  printf '%s\n' "$step_key" >"$DATA/stamps/$name"
}

# always NAME REMEDY FUNCTION: a step without a stamp, for work that keeps its own (cargo's).
always() {
  watch_step "$1" "$3"
  [ "$STEP_RC" -eq 0 ] || { explain "$1" "$2" && exit 1; }
}

# watch_step NAME FUNCTION: runs it with its output in a log, says every 15 s where it is, and
# leaves its exit code in STEP_RC. (Never call it in an `if` or before `||`: bash would then go on
# after a failed line of FUNCTION.)
watch_step() {
  say "  $1: started"
  start_step "$1" "$2"
  watch_child "$1" "$SECONDS"
}

# start_step NAME FUNCTION: as process CHILD. Its exit code is left in a file of its own, because bash
# may forget that of a process which ended long ago, and ids of processes are used again.
start_step() {
  rm -f "$(exit_file "$1")"
  # A process group of its own, so that stop_child reaches the compilers too.
  set -m
  (
    set +e
    (
      set -euo pipefail
      "$2"
    )
    printf '%s\n' $? >"$(exit_file "$1").part"
    mv "$(exit_file "$1").part" "$(exit_file "$1")"
  ) >"$DATA/logs/$1.log" 2>&1 </dev/null 9>&- &
  CHILD=$!
  set +m
}

# exit_file NAME: there once the step has ended by itself; what was killed leaves none.
exit_file() { printf '%s\n' "$DATA/logs/$1.exit"; }

# watch_child NAME BEGAN: until it ends.
watch_child() {
  local said=$SECONDS
  STEP_LOG=$DATA/logs/$1.log
  while [ ! -e "$(exit_file "$1")" ] && kill -0 "$CHILD" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - said)) -ge 15 ]; then
      said=$SECONDS
      say "  $1: $((SECONDS - $2)) s: $(last_line)"
    fi
  done
  # Only the file is believed. Without one the step was killed, as a shell's own code for that says.
  STEP_RC=$(cat "$(exit_file "$1")" 2>/dev/null) || STEP_RC=137
  wait "$CHILD" 2>/dev/null || true
  CHILD=""
  if [ "$STEP_RC" -eq 0 ]; then
    say "  $1: done in $((SECONDS - $2)) s"
  fi
}

# beside NAME FUNCTION: begins a step at low priority, for the steps after it to run beside.
beside() {
  say "  $1: started, beside what follows"
  start_step "$1" "$2"
  # Of the whole group: what it has started by now, and what it will start.
  renice -n 19 -g "$CHILD" >/dev/null 2>&1 || true
  BESIDE+=("$1 $CHILD $SECONDS")
  CHILD=""
}

# each_beside FUNCTION: waits for every such step, and calls the function with its name.
each_beside() {
  local name pid began entry
  for entry in ${BESIDE[@]+"${BESIDE[@]}"}; do
    read -r name pid began <<<"$entry"
    CHILD=$pid
    watch_child "$name" "$began"
    "$1" "$name"
  done
  BESIDE=()
}

# The newest line of the log that says something, cut to a screen's width.
last_line() {
  tail -c 2000 "$STEP_LOG" | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c1-100
}

# explain NAME REMEDY: what a failed step said last, where all of it is, and what to do.
explain() {
  {
    say ""
    say "FAILED: $1 (exit code $STEP_RC). The last lines of its log:"
    tail -n "${TANDEM_LOG_LINES:-25}" "$STEP_LOG" | sed 's/^/    | /'
    say "  log:    $STEP_LOG"
    say "  remedy: $2"
  } >&2
}

# One set-up at a time in a checkout: two would write the same files.
lock() {
  mkdir -p "$DATA/stamps" "$DATA/logs"
  # A Mac has no flock; there it is left to the one who types.
  command -v flock >/dev/null || return 0
  exec 9>"$DATA/lock"
  flock -n 9 || {
    say "another ./install.sh is at work in this checkout; waiting for it (at most an hour)"
    flock -w 3600 9 || fail "lock" "it still holds $DATA/lock" "end it, then run this again"
  }
}

# Ctrl-C must not leave a compiler at work in the background.
stop_child() {
  local entry name pid
  [ -z "${SUDO_KEEPER:-}" ] || kill "$SUDO_KEEPER" 2>/dev/null || true
  for entry in ${BESIDE[@]+"${BESIDE[@]}"} "- $CHILD"; do
    read -r name pid _ <<<"$entry"
    # Once a step has ended, its id may be another's.
    if [ -n "$pid" ] && [ ! -e "$(exit_file "$name")" ]; then
      kill -- "-$pid" 2>/dev/null || true
      # What a step runs as root is root's to end.
      [ -z "${SUDO_KEEPER:-}" ] || sudo -n kill -- "-$pid" 2>/dev/null || true
    fi
  done
}
