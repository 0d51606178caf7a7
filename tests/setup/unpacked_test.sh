# shellcheck shell=bash
# What unpacked.sh promises, from an archive of our own: a part of steps_test.sh, which sources it.
# The machine has what the emulator of its own Debian would remove, and a newer library of the same name.

ARCHIVE=$ROOT/archive
LIB=usr/lib/x86_64-linux-gnu
mkdir -p "$ARCHIVE"

# package NAME VERSION FIELD: makes it of what lies in $ROOT/NAME.
package() {
  mkdir -p "$ROOT/$1/DEBIAN"
  printf '%s\n' "Package: $1" "Version: $2" "Architecture: amd64" "Maintainer: nobody <nobody@localhost>" \
    "Description: for a test" "$3" | grep . >"$ROOT/$1/DEBIAN/control"
  dpkg-deb --root-owner-group --build "$ROOT/$1" "$ARCHIVE/$1_$2_amd64.deb" >/dev/null
}

mkdir -p "$ROOT/emulator/usr/bin" "$ROOT/loader/lib/x86_64-linux-gnu" "$ROOT/firmware/usr/share/doc/firmware"
cp /usr/bin/basename "$ROOT/emulator/usr/bin/emulator"
cp /usr/bin/basename "$ROOT/emulator/usr/bin/raised"
chmod u+s "$ROOT/emulator/usr/bin/raised"
# It asks for a library that no package here has.
cp /bin/bash "$ROOT/emulator/usr/bin/lacking"
# Not where the emulator's is: a package may still hold /lib, as Debian 12's loader does.
for name in ld-linux-x86-64.so.2 libc.so.6; do cp -L "/$LIB/$name" "$ROOT/loader/lib/x86_64-linux-gnu/"; done
echo text >"$ROOT/firmware/usr/share/firmware"
echo text >"$ROOT/firmware/usr/share/doc/firmware/copyright"
package loader 1 ""
package firmware 1 "Breaks: emulator-extras (>= 2)"
package emulator 1 "Depends: loader (= 1), firmware (= 1)"
(cd "$ARCHIVE" && dpkg-scanpackages . >Packages 2>/dev/null)
printf '%s\n' "Package: emulator-extras" "Status: install ok installed" "Version: 2" \
  "Architecture: amd64" "Maintainer: nobody" "Description: of backports" >"$ROOT/status"
echo "deb [trusted=yes] file:$ARCHIVE ./" >"$ROOT/sources.list"
cat >"$ROOT/apt.conf" <<CONF
Dir::Etc::SourceList "$ROOT/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::status "$ROOT/status";
CONF
# apt's program still takes the machine's own config, after this.
export APT_CONFIG=$ROOT/apt.conf
# shellcheck disable=SC2034  # read by unpack_tools
DEBIAN_UNPACKED=emulator UNPACKED_PROGRAMS="emulator raised"

fetch_lists >/dev/null 2>&1
out=$(apt_aside apt-get install --simulate --no-remove -o Dir::State::status="$ROOT/status" emulator 2>&1) || true
expect "here the emulator can't be installed" "emulator-extras" "$out"
watch_step unpack unpack_tools >/dev/null
expect "but unpacked" "0" "$STEP_RC"
expect "it runs with what was unpacked" "found" "$("$UNPACKED/bin/emulator" /a/found 2>&1)"
expect "by the loader beside it" "$UNPACKED/root/$LIB/ld-linux" "$(cat "$UNPACKED/bin/emulator")"
expect "its dependencies are there" "text" "$(cat "$UNPACKED/root/usr/share/firmware" 2>&1)"
expect "without their documents" "absent" \
  "$([ -e "$UNPACKED/root/usr/share/doc/firmware" ] || echo absent)"
expect "no program is raised to another user" "none" \
  "$(find "$UNPACKED/" -perm /6000 | grep . || echo none)"
expect "nothing is left of apt's own" "absent" "$([ -e "$DATA/apt" ] || echo absent)"

# shellcheck disable=SC2034  # read by unpack_tools
UNPACKED_PROGRAMS="emulator lacking"
watch_step unpack unpack_tools >/dev/null
expect "a program that takes a library of the system is refused" "1" "$STEP_RC"
expect "by the library's name" "libtinfo" "$(cat "$DATA/logs/unpack.log")"
expect "and left no result" "absent" "$([ -e "$UNPACKED/bin" ] || echo absent)"
unset APT_CONFIG
