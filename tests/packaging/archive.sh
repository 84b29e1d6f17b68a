# SPDX-License-Identifier: MIT
# The packages as an archive that apt reads, beside Debian's: parts with this need the network.
. "$(dirname "${BASH_SOURCE[0]}")/containers.sh"

ARCHIVE=$WORK/archive

# prepare_archive PURPOSE: packages, and the minimal root to install them on.
prepare_archive() {
    need_tools dpkg-scanpackages:dpkg-dev || { not_run "$1: no dpkg-dev"; return 1; }
    if ! MINIMAL_ROOT=$(root minimal "$SUITE" systemd,systemd-sysv,dbus); then
        not_run "$1: no $SUITE root (no network)"
        return 1
    fi
    if [ ! -e "$DEBS/first" ] && ! { prepare_build_root && build_variant first "" true; }; then
        not_run "$1: there are no packages"
        return 1
    fi
    mkdir -p "$ARCHIVE"
    cp "$DEBS"/first/*.deb "$ARCHIVE/"
    (cd "$ARCHIVE" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null)
}

# archive_root NAME: a writable minimal root whose apt knows the archive, at the same path as here.
archive_root() {
    local root
    root=$(overlay "$MINIMAL_ROOT" "$1")
    echo "deb [trusted=yes] file:$ARCHIVE ./" >"${root:?}/etc/apt/sources.list.d/gmesh.list"
    cp /etc/resolv.conf "${root:?}/etc/resolv.conf"
    echo "$root"
}

# enter_archive ROOT: bind the archive and the kernel's file systems into it.
enter_archive() {
    mkdir -p "$1$ARCHIVE"
    mount --bind "$ARCHIVE" "$1$ARCHIVE"
    chroot_mounts "$1"
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod +x "$1/usr/sbin/policy-rc.d"
}

in_root() {
    local root=$1
    shift
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
        DEBIAN_FRONTEND=noninteractive "$@"
}
