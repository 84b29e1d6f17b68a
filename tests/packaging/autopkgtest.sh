#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# autopkgtest: debian/tests against the installed packages, in a chroot.
. "$(dirname "$0")/archive.sh"

need_tools autopkgtest:autopkgtest || { not_run "autopkgtest: it is not installed and cannot be"; exit 0; }
prepare_archive autopkgtest || exit 0
base=$(archive_root autopkgtest)
rm "$base/etc/apt/sources.list.d/gmesh.list"
# Its chroot mounts nothing itself; without /proc there is no /dev/fd.
chroot_mounts "$base"
source_tree "$WORK/autopkgtest-source"
CHECK_LINES=40 check "autopkgtest: unit and daemons" autopkgtest --apt-upgrade --no-built-binaries \
    --log-file="$LOGS/autopkgtest.log" --summary-file="$LOGS/autopkgtest.summary" "$DEBS"/first/*.deb "$WORK/autopkgtest-source/" -- chroot "$base"
sed 's/^/         | /' "$LOGS/autopkgtest.summary" || true
grep -E '^(FAILED|ERROR|E  ) ' "$LOGS/autopkgtest.log" | head -n 40 | sed 's/^/         | /' || true
drop autopkgtest
