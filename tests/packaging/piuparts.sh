#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# piuparts: install, remove and purge on a minimal system, with what only the archive brings.
. "$(dirname "$0")/archive.sh"

need_tools piuparts:piuparts || { not_run "piuparts: it is not installed and cannot be"; exit 0; }
prepare_archive piuparts || exit 0
base=$(archive_root piuparts)
# debconf's own directory for apt is there only once apt has installed something.
check "piuparts: install, remove, purge" piuparts --existing-chroot="$base" -d "$SUITE" --keep-sources-list \
    --no-upgrade-test --no-eatmydata --ignore-regex='^/var/cache/debconf/tmp' --bindmount="$ARCHIVE" --log-file="$LOGS/piuparts.log" \
    "$DEBS"/first/python3-gmesh_*.deb "$DEBS"/first/gmesh-authority_*.deb "$DEBS"/first/gmesh-node_*.deb
grep -E 'PASS|FAIL|ERROR' "$LOGS/piuparts.log" | tail -n 5 | sed 's/^/         | /' || true
drop piuparts
