#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Packages: built without network in a Debian root; lintian; contents; the sandbox of the units.
. "$(dirname "${BASH_SOURCE[0]}")/roots.sh"

BUILD_SECONDS=${GMESH_PACKAGING_BUILD_SECONDS:-2700}
SECURITY_THRESHOLD=15

# source_tree DIRECTORY: what the tree holds, tracked or new, without what git ignores.
source_tree() {
    mkdir -p "$1"
    if git -C "$TOP" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        (cd "$TOP" && git ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done |
            tar -c --null -T - | tar -x -C "$1")
    else
        tar -C "$TOP" -c --exclude='./.*' --exclude='*.egg-info' --exclude=__pycache__ . | tar -x -C "$1"
    fi
    chmod -R u=rwX,go=rX "$1"
}

# build ROOT SOURCE LOG [ENVIRONMENT...]: dpkg-buildpackage without network, loopback up; SOURCE is
# a path inside ROOT whose parent takes the results.
build() {
    local root=$1 source=$2 log=$3
    shift 3
    timeout --kill-after=10 "$BUILD_SECONDS" unshare --net --mount --fork --pid --kill-child -- \
        bash -euc 'ip link set lo up; mount -t proc proc "$1/proc"
            exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/nonexistent \
                "${@:3}" sh -c "cd \"$2\" && exec dpkg-buildpackage -us -uc -b"' \
        build "$root" "$source" "$@" >"$log" 2>&1 </dev/null
}

# A variant of the packages for the upgrade checks and mutations: its tests are not run again.
# build_variant NAME VERSION EDIT-COMMAND...: the edit runs in the source tree; packages go to $DEBS/NAME.
# An empty VERSION leaves the changelog as it is.
build_variant() {
    local name=$1 version=$2 root
    shift 2
    [ ! -e "$DEBS/$name/done" ] || return 0
    root=$(overlay "$BUILD_ROOT" "variant-$name")
    chroot_mounts "$root"
    source_tree "${root:?}/build/gmesh"
    (
        cd "${root:?}/build/gmesh"
        [ -z "$version" ] || python3 - "$version" <<'PYTHON'
import re, sys
path = "debian/changelog"
text = open(path).read()
entry = re.match(r"gmesh \([^)]*\)(.*?\n)(?=gmesh \(|\Z)", text, re.S)[0]
open(path, "w").write(re.sub(r"\([^)]*\)", f"({sys.argv[1]})", entry, count=1) + "\n" + text)
PYTHON
        "$@"
    )
    if build "$root" /build/gmesh "$LOGS/build-$name.log" DEB_BUILD_OPTIONS=nocheck; then
        mkdir -p "$DEBS/$name"
        cp "$root"/build/*.deb "$DEBS/$name/"
        touch "$DEBS/$name/done"
    else
        tail -n 15 "$LOGS/build-$name.log" | sed 's/^/         | /'
        failed "the variant $name builds"
    fi
    drop "variant-$name"
    [ -e "$DEBS/$name/done" ]
}

prepare_build_root() {
    if ! BUILD_ROOT=$(root build "$SUITE" "$(build_packages)"); then
        not_run "packages: no $SUITE root to build in (no network, and none in $CACHE)"
        return 1
    fi
}

# Without the suite, so that packages are there soon: suite.sh runs it, and proves that it makes no difference.
first_build() {
    local root log=$LOGS/build.log
    root=$(overlay "$BUILD_ROOT" build)
    chroot_mounts "$root"
    source_tree "${root:?}/build/gmesh"
    say "building the packages without network"
    if ! build "$root" /build/gmesh "$log" TZ=UTC DEB_BUILD_OPTIONS=nocheck; then
        failed "dpkg-buildpackage without network"
        tail -n 25 "$log" | sed 's/^/         | /'
        return 1
    fi
    passed "dpkg-buildpackage without network"
    keep_first "$root"
}

keep_first() {
    mkdir -p "$DEBS/first"
    cp "$1"/build/*.deb "$1"/build/*.changes "$1"/build/*.buildinfo "$DEBS/first/"
    if [ -n "${GMESH_PACKAGING_OUTPUT:-}" ]; then
        mkdir -p "$GMESH_PACKAGING_OUTPUT"
        cp "$1"/build/*.deb "$GMESH_PACKAGING_OUTPUT/"
        echo "packages: $GMESH_PACKAGING_OUTPUT"
    fi
    run_lintian "$1"
    drop build
}

# The source package, from a tree in which nothing was built.
source_package() {
    source_tree "$1/source/gmesh"
    chroot "$1" sh -euc 'cd /source
        upstream=$(dpkg-parsechangelog -l gmesh/debian/changelog -S Version | sed "s/-[^-]*$//")
        tar -caf "gmesh_$upstream.orig.tar.xz" --exclude=gmesh/debian gmesh
        dpkg-source -b gmesh
        mv gmesh_* /build/' >"$LOGS/source.log" 2>&1
}

run_lintian() {
    say "lintian"
    check "the source package is made" source_package "$1"
    CHECK_LINES=40 check "lintian has no error and no warning" chroot "$1" sh -c \
        'cd /build && lintian -EI --fail-on error,warning --tag-display-limit 0 --allow-root *.changes *.dsc'
    check "every lintian override has a comment" overrides_explained
}

overrides_explained() {
    local file
    for file in "$TOP"/debian/*lintian-overrides "$TOP"/debian/source/lintian-overrides; do
        [ -e "$file" ] || continue
        awk '/^#/ { told = 1; next } /^$/ { told = 0; next } !told { print FILENAME ": " $0; bad = 1 } END { exit bad }' "$file"
    done
}

listing() { dpkg-deb -c "$1" | awk '{ print $6 }'; }
depends() { dpkg-deb -f "$DEBS"/first/"$1"_*.deb Depends | tr ',' '\n' | sed 's/^ *//'; }

control_file() { dpkg-deb --ctrl-tarfile "$DEBS"/first/"$1"_*.deb | tar -xO "./$2"; }

contents() {
    local deb path library name floor
    say "contents"
    for name in python3-gmesh gmesh-authority gmesh-node gmesh-doc; do
        deb=$(echo "$DEBS/first/${name}"_*.deb)
        equal "$name: Architecture: all" all "$(dpkg-deb -f "$deb" Architecture)"
    done
    library=$(listing "$DEBS"/first/python3-gmesh_*.deb)
    for path in ./usr/lib/python3/dist-packages/twisted/plugins/gmesh_authority.py \
        ./usr/lib/python3/dist-packages/twisted/plugins/gmesh_endpoints.py \
        ./usr/lib/python3/dist-packages/twisted/plugins/gmesh_node.py \
        ./usr/lib/python3/dist-packages/gmesh/authority/store/migrations/0001_initial.sql \
        ./usr/lib/python3/dist-packages/gmesh/py.typed ./usr/bin/gmesh \
        ./usr/share/bash-completion/completions/gmesh ./usr/share/zsh/vendor-completions/_gmesh \
        ./usr/share/man/man1/gmesh.1.gz ./usr/share/man/man1/gmesh-join.1.gz; do
        check "python3-gmesh has $path" line_in "$path" "$library"
    done
    check "python3-gmesh has nothing of Twisted's, no tests, no caches" refuse matches \
        '/twisted/(plugins/)?__init__\.py|dropin\.cache|/tests/|__pycache__|dist-packages/(docs|bench|debian)/' \
        "$library"
    equal "every module and data file of the tree is in it, nothing else" \
        "$(cd "$TOP" && find gmesh twisted -type f ! -name '*.pyc' ! -name dropin.cache | sort)" \
        "$(sed -nE 's,^./usr/lib/python3/dist-packages/((gmesh|twisted)/.*[^/])$,\1,p' <<<"$library" | sort)"
    check "its trigger is awaited" line_in 'activate-await twisted-plugins-cache' "$(control_file python3-gmesh triggers)"
    # Every floor of setup.cfg must have arrived in Depends, under Debian's name for the module.
    while read -r name floor; do
        check "Depends: $name (>= $floor)" line_in "$name (>= $floor)" "$(depends python3-gmesh)"
    done < <(python3 - "$TOP/setup.cfg" <<'PYTHON'
import configparser, re, sys
settings = configparser.ConfigParser()
settings.read(sys.argv[1])
names = {"attrs": "attr", "pyopenssl": "openssl", "PyNaCl": "nacl"}
for requirement in settings["options"]["install_requires"].split():
    name, floor = re.split("[=>]=", requirement)
    print("python3-" + names.get(name, name), floor)
PYTHON
    )
    for name in gmesh-authority gmesh-node; do
        library=$(listing "$DEBS"/first/${name}_*.deb)
        for path in "./usr/lib/systemd/system/$name.service" "./usr/lib/sysusers.d/$name.conf" \
            "./usr/lib/tmpfiles.d/$name.conf" "./etc/default/$name" "./usr/share/man/man8/$name.8.gz"; do
            check "$name has $path" line_in "$path" "$library"
        done
        check "$name needs exactly this library" matches '^python3-gmesh \(= ' "$(depends "$name")"
        check "$name: /etc/default/$name is a conffile" line_in "/etc/default/$name" "$(control_file "$name" conffiles)"
    done
    for name in authority node; do
        check "gmesh-$name: /etc/gmesh/$name.toml is a conffile" line_in "/etc/gmesh/$name.toml" \
            "$(control_file "gmesh-$name" conffiles)"
    done
    check "gmesh-doc has the manual" line_in ./usr/share/doc/gmesh-doc/html/index.html \
        "$(listing "$DEBS"/first/gmesh-doc_*.deb)"
    equal "one module imports the Noise library" 1 \
        "$(cd "$TOP" && grep -rlE '^ *(import|from) +(noise|noiseprotocol)\b' gmesh --include='*.py' | wc -l)"
}

# By the systemd of the target, offline; the live figures are in lifecycle.sh.
security() {
    local root unit
    say "sandbox of the units"
    root=$(overlay "$RUN_ROOT" security)
    for unit in authority node; do
        dpkg-deb -x "$DEBS"/first/gmesh-${unit}_*.deb "$root"
    done
    for unit in gmesh-authority gmesh-node gmesh-node-enrol; do
        check "systemd-analyze security $unit: $(chroot "$root" systemd-analyze security --offline=yes \
            "/usr/lib/systemd/system/$unit.service" 2>/dev/null | tail -n 1 | grep -oE '[0-9.]+ [A-Z]+')" \
            chroot "$root" systemd-analyze security --offline=yes --threshold=$SECURITY_THRESHOLD \
            "/usr/lib/systemd/system/$unit.service"
    done
    # The same with port 443, by the drop-in as it is shipped.
    mkdir -p "$root/etc/systemd/system/gmesh-node.service.d"
    cp "$root/usr/share/doc/gmesh-node/examples/node-443.conf" "$root/etc/systemd/system/gmesh-node.service.d/"
    check "systemd-analyze security gmesh-node on port 443" \
        chroot "$root" systemd-analyze security --offline=yes --threshold=$SECURITY_THRESHOLD gmesh-node.service
    drop security
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    prepare_build_root || exit 0
    first_build
    contents
    if RUN_ROOT=$(root run "$SUITE" "$(run_packages)"); then
        security
    else
        not_run "the security threshold: no $SUITE root to run in"
    fi
fi
