#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian releases: a full-upgrade to the next one keeps gmesh working; the one before refuses it with a reason.
. "$(dirname "$0")/archive.sh"

NEXT_SUITE=${GMESH_PACKAGING_NEXT:-forky}
BEFORE_SUITE=${GMESH_PACKAGING_BEFORE:-bookworm}

both_daemons() { [ "$(in_root "$1" twistd3 --help | grep -cE '^ +gmesh-(authority|node) ')" = 2 ]; }

next_suite() {
    local root
    say "full-upgrade from $SUITE to $NEXT_SUITE"
    root=$(archive_root upgrade)
    enter_archive "$root"
    if ! in_root "$root" apt-get -q update >"$LOGS/release.log" 2>&1; then
        not_run "full-upgrade: no network"
        return
    fi
    check "apt installs gmesh on a minimal $SUITE" in_root "$root" \
        apt-get -qy --no-install-recommends install gmesh-authority gmesh-node
    check "before: twistd3 knows both daemons" both_daemons "$root"
    find "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d -type f ! -name gmesh.list \
        -exec sed -i "s/\b$SUITE\b/$NEXT_SUITE/g" {} + 2>/dev/null || true
    # A mirror that lags behind is good enough for this.
    if ! in_root "$root" apt-get -q -o Acquire::Check-Valid-Until=false update >>"$LOGS/release.log" 2>&1; then
        grep '^E:' "$LOGS/release.log" | tail -n 2
        not_run "full-upgrade: $NEXT_SUITE cannot be had"
        drop upgrade
        return
    fi
    CHECK_LINES=30 check "full-upgrade to $NEXT_SUITE" in_root "$root" apt-get -qy -o Dpkg::Options::=--force-confold full-upgrade
    equal "it is $NEXT_SUITE now" "$NEXT_SUITE" "$(sed -n 's/^VERSION_CODENAME=//p' "$root/etc/os-release")"
    equal "gmesh is still installed" "install ok installed" \
        "$(in_root "$root" dpkg-query -W -f '${Status}' gmesh-node)"
    check "after: twistd3 knows both daemons" both_daemons "$root"
    check "gmesh runs on the Python of $NEXT_SUITE ($(in_root "$root" python3 --version))" in_root "$root" gmesh --version
    check "every module of gmesh can be imported there" in_root "$root" python3 -W ignore -c '
import importlib, pkgutil, gmesh
for module in pkgutil.walk_packages(gmesh.__path__, "gmesh."):
    if module.name not in ("gmesh.testing.pytest_plugin", "gmesh.authority.store.postgres"):
        importlib.import_module(module.name)'
    drop upgrade
}

# Not supported: its Twisted and cryptography are older than the floors, and four libraries are missing.
suite_before() {
    local root
    say "$BEFORE_SUITE"
    if ! root=$(root minimal "$BEFORE_SUITE" systemd); then
        not_run "$BEFORE_SUITE: no root"
        return
    fi
    root=$(overlay "$root" before)
    echo "deb [trusted=yes] file:$ARCHIVE ./" >"${root:?}/etc/apt/sources.list.d/gmesh.list"
    cp /etc/resolv.conf "${root:?}/etc/resolv.conf"
    enter_archive "$root"
    in_root "$root" apt-get -q update >>"$LOGS/release.log" 2>&1 || true
    check "$BEFORE_SUITE refuses gmesh and names what is missing" shell_refuses "$root"
    drop before
}

shell_refuses() {
    local text
    ! text=$(in_root "$1" apt-get -qy --simulate install gmesh-node 2>&1) && grep -E 'python3-(msgspec|klein|twisted)' <<<"$text"
}

prepare_archive "Debian releases" || exit 0
next_suite
suite_before
