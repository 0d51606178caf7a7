# shellcheck shell=bash
# `sudo ./install.sh` on a Mac: checks it, installs or upgrades the package, and says what keeps it from
# serving. What installs is the package; this only asks before and looks after.

# The same paths as in pkg/src/layout.rs.
APPLIANCE_TANDEM=/usr/local/libexec/tandem/tandem
APPLIANCE_UNINSTALLER=/usr/local/libexec/tandem/uninstall
APPLIANCE_CONFIG=/usr/local/etc/tandem/tandem.toml
APPLIANCE_MODELS=/usr/local/var/tandem/models

# RDMA over Thunderbolt came with it.
MACOS_MIN=26.2
# The package unpacked, twice while one version takes the other's place.
DISK_MIN_MIB=2048
# How often the gates are looked at, two seconds apart: reading hundreds of GB takes minutes.
GATES_LOOKS=450
# Looks that show the same failure before it is believed.
STUCK_LOOKS=30

PKG=""
CONFIG=""
MODEL_WANTED=""
PAIR=""
UNINSTALL=""
PURGE=""

# appliance OPTION...: the whole of it.
appliance() {
  parse_options "$@"
  [ "$(uname)" = Darwin ] || fail options "this is $(uname), and the appliance is for Macs" \
    "here there is: ./install.sh demo (try it), ./install.sh package (make the package for a Mac)"
  [ "$(id -u)" -eq 0 ] || fail root "installing needs root" "sudo ./install.sh $*"
  if [ -n "$UNINSTALL" ]; then
    uninstall
    return
  fi
  check_mac
  find_package
  check_boot
  check_new_config
  save_config
  install_package
  choose_model
  pair
  wait_for_gates
}

parse_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --pkg | --config | --model | --pair)
        [ -n "${2:-}" ] || fail options "$1 needs a value" "./install.sh help"
        case $1 in
          --pkg) PKG=$2 ;;
          --config) CONFIG=$2 ;;
          --model) MODEL_WANTED=$2 ;;
          --pair) PAIR=$2 ;;
        esac
        shift 2
        ;;
      --uninstall) UNINSTALL=yes && shift ;;
      --purge) PURGE=--purge && shift ;;
      *) fail options "there is no option '$1'" "./install.sh help" ;;
    esac
  done
  [ -z "$PURGE" ] || [ -n "$UNINSTALL" ] ||
    fail options "--purge is for --uninstall only" "./install.sh help"
  [ -z "$UNINSTALL" ] || [ -z "$PKG$CONFIG$MODEL_WANTED$PAIR" ] ||
    fail options "--uninstall takes no option but --purge" "./install.sh help"
}

check_mac() {
  local version free_kib
  [ "$(uname -m)" = arm64 ] ||
    fail mac "this Mac is $(uname -m)" "Tandem needs Apple silicon with Thunderbolt 5"
  version=$(/usr/bin/sw_vers -productVersion)
  is_at_least "$version" "$MACOS_MIN" || fail mac "this is macOS $version" \
    "update both Macs to the same version, $MACOS_MIN or newer, then run this again"
  free_kib=$(/bin/df -Pk / | awk 'NR == 2 { print $4 }')
  [ "$free_kib" -ge $((DISK_MIN_MIB * 1024)) ] || fail disk \
    "$((free_kib / 1024)) MiB are free, and $DISK_MIN_MIB MiB are needed" \
    "delete what is not needed, then run this again"
  say "This Mac: macOS $version, $(($(/usr/sbin/sysctl -n hw.memsize) >> 30)) GiB of memory."
}

# is_at_least VERSION MINIMUM: compares numbers between dots, a missing one is 0.
is_at_least() {
  awk -v have="$1" -v least="$2" 'BEGIN {
    n = split(have, a, "."); m = split(least, b, ".")
    for (i = 1; i <= (n > m ? n : m); i++) {
      if (a[i] + 0 > b[i] + 0) exit 0
      if (a[i] + 0 < b[i] + 0) exit 1
    }
  }'
}

# The one that was named, or the newest that was made here.
find_package() {
  local found
  if [ -z "$PKG" ]; then
    for found in "$ROOT"/target/mac/tandem-*-arm64.pkg; do
      [ ! -e "$found" ] || [ -n "$PKG" ] && [ ! "$found" -nt "$PKG" ] || PKG=$found
    done
    [ -e "$PKG" ] || fail package "there is none in target/mac" \
      "./install.sh package makes one (without sudo), or name one with --pkg"
  fi
  [ -f "$PKG" ] || fail package "there is no file $PKG" "name the package with --pkg"
  EXPANDED=$(mktemp -d)
  trap 'rm -rf "$EXPANDED"' EXIT
  /usr/sbin/pkgutil --expand-full "$PKG" "$EXPANDED/pkg" >/dev/null ||
    fail package "$PKG can't be unpacked" "get it again: it is damaged, or no package"
  NEW_TANDEM=$(find "$EXPANDED/pkg" -path "*$APPLIANCE_TANDEM" -type f | head -n 1)
  [ -x "$NEW_TANDEM" ] || fail package "$PKG has no $APPLIANCE_TANDEM in it" \
    "use a package of Tandem's"
  say "Package: $PKG ($("$NEW_TANDEM" version))"
}

# What the package relies on later is said before it is installed, by the new executable itself.
check_boot() {
  say ""
  say "Whether this Mac comes back by itself:"
  if "$NEW_TANDEM" selftest --boot --config "${CONFIG:-$APPLIANCE_CONFIG}"; then
    return
  fi
  say ""
  say "Until that is mended Tandem serves, but can't be relied on to do so again after a power loss or"
  say "a reboot; it reboots this Mac by itself only when nothing here is wrong or unknown."
  say ""
}

check_new_config() {
  [ -z "$CONFIG" ] || "$NEW_TANDEM" config check --config "$CONFIG" ||
    fail config "$CONFIG is not a good config" "mend it as said above, then run this again"
}

# Before the package, so that the service starts with it; the old one is kept beside it.
save_config() {
  [ -n "$CONFIG" ] || return 0
  mkdir -p "${APPLIANCE_CONFIG%/*}"
  if [ -e "$APPLIANCE_CONFIG" ] && ! cmp -s "$CONFIG" "$APPLIANCE_CONFIG"; then
    cp -p "$APPLIANCE_CONFIG" "$APPLIANCE_CONFIG.before"
    say "The config that was there is kept as $APPLIANCE_CONFIG.before"
  fi
  write_config <"$CONFIG"
}

# write_config <TEXT: replaces the config in one step, or not at all.
write_config() {
  cat >"$APPLIANCE_CONFIG.new"
  chmod 0644 "$APPLIANCE_CONFIG.new"
  mv -f "$APPLIANCE_CONFIG.new" "$APPLIANCE_CONFIG"
}

install_package() {
  say "Installing; a running model is unloaded first, which may take minutes."
  /usr/sbin/installer -pkg "$PKG" -target / || fail installer "the package was not installed" \
    "read the end of /var/log/tandem/install.log and /var/log/install.log; the version that was there \
still is"
}

# --model NAME: of a folder in the models' folder; or a folder; or a GGUF file, which is imported.
choose_model() {
  local folder
  [ -n "$MODEL_WANTED" ] || return 0
  case $MODEL_WANTED in
    *.gguf)
      folder=$APPLIANCE_MODELS/$(basename "$MODEL_WANTED" .gguf)
      "$APPLIANCE_TANDEM" model import "$MODEL_WANTED" --models "$APPLIANCE_MODELS" \
        --name "$(basename "$MODEL_WANTED" .gguf)" ||
        fail model "$MODEL_WANTED was not imported" "see the reason above"
      ;;
    */*) folder=$MODEL_WANTED ;;
    *) folder=$APPLIANCE_MODELS/$MODEL_WANTED ;;
  esac
  case $folder in
    /*) ;;
    *) folder=$PWD/$folder ;;
  esac
  case $folder in
    *[\"\\]*) fail model "a path with quotes can't be written to the config" "rename $folder" ;;
  esac
  [ -f "$folder/config.json" ] || fail model "there is no model in $folder" \
    "copy it there (config.json, *.safetensors, tokenizer.json), then run this again"
  # The first path of the section [model]; all other lines stay as they are.
  awk -v path="$folder" '
    /^\[/ { in_model = ($0 ~ /^\[model\]/) }
    in_model && !done && /^path *=/ { print "path = \"" path "\""; done = 1; next }
    { print }
    END { if (!done) exit 1 }
  ' "$APPLIANCE_CONFIG" >"$EXPANDED/config.toml" || fail model \
    "$APPLIANCE_CONFIG has no line 'path = ...' in [model]" "write one: path = \"$folder\""
  "$NEW_TANDEM" config check --config "$EXPANDED/config.toml" ||
    fail model "the config would be refused with this model" "see the reason above"
  cmp -s "$EXPANDED/config.toml" "$APPLIANCE_CONFIG" || write_config <"$EXPANDED/config.toml"
  say "Model: $folder"
}

# The code is asked for: an argument could be seen by other users.
pair() {
  case $PAIR in
    "") ;;
    init) "$APPLIANCE_TANDEM" pair init || fail pair "no other Mac joined" "sudo tandem pair init" ;;
    *)
      "$APPLIANCE_TANDEM" pair join "$PAIR" ||
        fail pair "this Mac did not join $PAIR" "sudo tandem pair join $PAIR"
      ;;
  esac
}

# What has failed and stays so for a minute waits for a person, not for time.
wait_for_gates() {
  local last="" now looks=0 same=0
  say ""
  say "Waiting until it serves (at most $((GATES_LOOKS / 30)) minutes; Ctrl-C ends only the waiting):"
  while [ "$looks" -lt "$GATES_LOOKS" ]; do
    looks=$((looks + 1)) same=$((same + 1))
    if now=$("$APPLIANCE_TANDEM" gates 2>&1); then
      say "$now"
      say ""
      say "It serves. tandem status shows it; sudo tandem pair status the other Mac."
      return
    fi
    if [ "$now" != "$last" ]; then
      say "$now"
      last=$now same=0
    fi
    case $now in
      *failed*) [ "$same" -lt "$STUCK_LOOKS" ] || break ;;
    esac
    sleep 2
  done
  say ""
  say "It is installed and does not serve yet. What keeps it, and what to do:"
  "$APPLIANCE_TANDEM" doctor || true
  exit 1
}

uninstall() {
  [ -x "$APPLIANCE_UNINSTALLER" ] || fail uninstall "there is no $APPLIANCE_UNINSTALLER" \
    "nothing of Tandem is installed here, or a part of it by hand"
  "$APPLIANCE_UNINSTALLER" ${PURGE:+"$PURGE"}
}
