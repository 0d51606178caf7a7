# shellcheck shell=bash
# Root's rights for those who are not root: by sudo, asked for once.

# The process that keeps sudo from asking again, if there is one.
SUDO_KEEPER=""

# ask_for_root WHAT REMEDY: asks where the question can be seen, not in a step's log. WHAT needs it.
ask_for_root() {
  [ "$(id -u)" -ne 0 ] || return 0
  command -v sudo >/dev/null || fail "$1" "this needs root, and there is no sudo" "$2"
  # Not -v alone: it may ask for the password of one who needs none.
  sudo -n true 2>/dev/null || sudo -v || fail "$1" "sudo was refused" "$2"
}

# Until this script ends, as the tests take longer than sudo remembers.
keep_root() {
  [ "$(id -u)" -ne 0 ] || return 0
  while sleep 50; do sudo -n -v || true; done >/dev/null 2>&1 </dev/null 9>&- &
  # shellcheck disable=SC2034  # read by stop_child
  SUDO_KEEPER=$!
}

# as_root COMMAND...: with this environment, but for the name: a temporary folder that is named after a
# user must be his own.
as_root() {
  local -a everything
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    mapfile -d '' -t everything < <(env -0)
    sudo -n env -i "${everything[@]}" USER=root LOGNAME=root "$@"
  fi
}

# hand_back FOLDER...: gives this user what root left in his folders.
hand_back() {
  [ "$(id -u)" -eq 0 ] ||
    sudo -n find "$@" -xdev -user root -exec chown -h "$(id -u):$(id -g)" {} + ||
    say "Some files may still be root's, below: $*"
}
