#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The packages once more: in another directory, umask, zone and language, and with the suite on Debian's
# versions of everything. What comes out must be the same, bit by bit.
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"

# So many tests must have passed: fewer means that something keeps them from running.
PASSED_FLOOR=2200

# same_bytes DEB DEB: or what differs.
same_bytes() { cmp "$1" "$2" || { diff <(dpkg-deb -c "$1") <(dpkg-deb -c "$2"); return 1; }; }

second_build() {
    local root deb log=$LOGS/suite.log passes
    root=$(overlay "$BUILD_ROOT" again)
    chroot_mounts "$root"
    (umask 0027 && source_tree "${root:?}/srv/another/place/gmesh-0")
    if (umask 0027 && build "$root" /srv/another/place/gmesh-0 "$log" TZ=Pacific/Kiritimati LC_ALL=POSIX); then
        passed "dpkg-buildpackage with the suite, without network"
    else
        failed "dpkg-buildpackage with the suite, without network"
        grep -E '^(FAILED|ERROR) |^E  |: error|Error ' "$log" | head -n 40 | sed 's/^/         | /' || true
        tail -n 12 "$log" | sed 's/^/         | /'
        # Whatever the suite said, the bytes are judged too.
        (umask 0027 && build "$root" /srv/another/place/gmesh-0 "$log.nocheck" TZ=Pacific/Kiritimati LC_ALL=POSIX \
            DEB_BUILD_OPTIONS=nocheck) || true
    fi
    passes=$(grep -oE '[0-9]+ passed' "$log" | tail -n 1 | cut -d' ' -f1 || true)
    check "the suite ran in the chroot: ${passes:-0} passed, at least $PASSED_FLOOR wanted" \
        test "${passes:-0}" -ge "$PASSED_FLOOR"
    for deb in "$DEBS"/first/*.deb; do
        check "built twice, the same bytes: ${deb##*/}" same_bytes "$deb" "$root/srv/another/place/${deb##*/}"
    done
    drop again
}

prepare_build_root || exit 0
[ -e "$DEBS/first" ] || build_variant first "" true
second_build
