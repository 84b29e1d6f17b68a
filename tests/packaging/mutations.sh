#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Packages made wrong on purpose: each mistake must turn the check red that is there for it.
# Two more are probed where they are booted anyway, in lifecycle.sh: MemoryDenyWriteExecute=yes and no AF_UNIX.
. "$(dirname "$0")/lifecycle.sh"

# dpkg runs scripts and triggers of both releases, so both are made wrong.
mutant_next() {
    next_release
    mutant
}

mutant() {
    rm debian/python3-gmesh.triggers
    sed -i 's/ --no-stop-on-upgrade//' debian/rules
    sed -i 's/"\$1" = purge/"$1" = remove/' debian/gmesh-*.postrm
}

dropped_package() {
    local root
    root=$(overlay "$BUILD_ROOT" dropped)
    chroot_mounts "$root"
    source_tree "${root:?}/build/gmesh"
    check "the list of packages is right" list_test "$root"
    sed -i '/^    gmesh\.routing$/d' "${root:?}/build/gmesh/setup.cfg"
    check "mutation: a package dropped from setup.cfg fails its test" refuse list_test "$root"
    drop dropped
}

list_test() {
    chroot "$1" sh -c 'cd /build/gmesh && python3 -m pytest -q -p no:cacheprovider \
        tests/test_packaging.py -k package_list_is_the_tree' | tee /dev/stderr | grep -E '^1 passed'
}

prepare_containers "mutations" || exit 0
prepare_build_root
dropped_package
build_variant mutant "" mutant
build_variant mutant-next 0.1.1-1 mutant_next
container wrong 60
boot wrong
install_debs wrong mutant "${EVERYTHING[@]}"
found_network wrong http://127.0.0.1:8440
shell wrong 'mkdir -p /etc/systemd/system/gmesh-authority.service.d
    cp /usr/share/doc/gmesh-authority/examples/socket-activation.conf /etc/systemd/system/gmesh-authority.service.d/
    systemctl daemon-reload
    systemctl enable --now gmesh-authority.socket
    twistd3 --help >/dev/null'
answers_443() { guest wrong curl -fsS --max-time 10 http://127.0.0.1:443/healthz; }
check "before: port 443 answers" answers_443
before=$(secrets wrong)
watch_port_443 wrong
install_debs wrong mutant-next "${EVERYTHING[@]}" || true
check "mutation: without the trigger a new plugin with an old time stays unknown" \
    shell wrong '! twistd3 --help | grep gmesh-probe >/dev/null'
check "mutation: without --no-stop-on-upgrade an upgrade closes port 443" refuse never_refused wrong
guest wrong dpkg --remove gmesh-authority gmesh-node python3-gmesh >/dev/null
check "mutation: a postrm that deletes on remove is seen in the sums" test "$before" != "$(secrets wrong)"
discard wrong
