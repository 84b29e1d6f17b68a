#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The life of the packages on one booted host: install, enrol, run, be killed, reload, upgrade, remove, purge.
. "$(dirname "${BASH_SOURCE[0]}")/containers.sh"

LIVE_SECURITY=1.5
UNITS=(gmesh-authority gmesh-node)

# drop_in NAME UNIT TEXT: a drop-in of this check, in force.
drop_in() {
    shell "$1" "mkdir -p /etc/systemd/system/$2.service.d; cat >/etc/systemd/system/$2.service.d/check.conf <<'END'
[Service]
$3
END
systemctl daemon-reload"
}

drop_out() { shell "$1" "rm -rf /etc/systemd/system/$2.service.d; systemctl daemon-reload"; }

install_without_keys() {
    local unit
    say "install, no key yet"
    check "the packages install" install_debs one first "${EVERYTHING[@]}"
    for unit in "${UNITS[@]}" gmesh-node-enrol; do
        equal "$unit is enabled" enabled "$(guest one systemctl is-enabled "$unit" || true)"
        equal "$unit is skipped without key, not failed" "no inactive success" \
            "$(property one "$unit" ConditionResult) $(property one "$unit" ActiveState) $(property one "$unit" Result)"
    done
    equal "the socket is left to the administrator" disabled \
        "$(guest one systemctl is-enabled gmesh-authority.socket || true)"
    equal "nothing failed" "" "$(guest one systemctl --failed --no-legend --plain)"
    equal "the system is running" running "$(guest one systemctl is-system-running || true)"
    for unit in authority node; do
        equal "user _gmesh-$unit" "/var/lib/gmesh-$unit /usr/sbin/nologin" \
            "$(guest one getent passwd "_gmesh-$unit" | awk -F: '{ print $6, $7 }')"
        equal "state of gmesh-$unit is its own" "_gmesh-$unit:_gmesh-$unit 700" \
            "$(guest one stat -c '%U:%G %a' "/var/lib/gmesh-$unit")"
    done
    equal "the keys are root's" "root:root 700" "$(guest one stat -c '%U:%G %a' /etc/gmesh/authority.keys)"
    cp "$HERE/manpages.py" "$(root_of one)/root/"
    check "man pages name every command and every option, and nothing else" guest one python3 /root/manpages.py
    completions
}

# What a person gets by the tab key, from the shells themselves where they can be asked without a terminal.
completions() {
    equal "bash completes gmesh commands" "join" "$(bash_completes gmesh joi)"
    equal "bash completes below them" "invite invites" "$(bash_completes gmesh admin invi)"
    equal "bash completes options" "--service" "$(bash_completes gmesh receive --ser)"
    equal "fish completes gmesh commands" "join" "$(guest one fish -c 'complete -C "gmesh joi"' | cut -f1)"
    equal "fish completes below them" "invite invites" \
        "$(guest one fish -c 'complete -C "gmesh admin invi"' | cut -f1 | sort | xargs)"
    equal "zsh completes gmesh by what the package brings" "_gmesh" \
        "$(guest one zsh -fc 'autoload -U compinit && compinit -u -D && print $_comps[gmesh]')"
    equal "and is told the right words" "invite invites" "$(guest one env _GMESH_COMPLETE=zsh_complete \
        COMP_WORDS='gmesh admin invi' COMP_CWORD=2 gmesh | grep -x 'invites*' | sort | xargs)"
}

# bash_completes WORD...: what bash offers for the last word.
bash_completes() {
    guest one bash -c '. /usr/share/bash-completion/bash_completion
        . /usr/share/bash-completion/completions/gmesh
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _gmesh_completion gmesh "${!#}" "${@: -2:1}"; printf "%s\n" "${COMPREPLY[@]}" | sort | xargs' bash "$@"
}

start_both() {
    local began
    say "keys, enrolment, start"
    check "gmesh init, and the authority's files in their places" \
        found_network one http://127.0.0.1:8440 --anchor "one=$SUBNET.1:7443"
    began=$(now_ms)
    check "the authority starts" guest one systemctl start gmesh-authority
    passed "the authority was READY after $(($(now_ms) - began)) ms"
    check "healthz answers" guest one curl -fsS http://127.0.0.1:8440/healthz
    check "readyz answers: it can sign and write" guest one curl -fsS http://127.0.0.1:8440/readyz
    equal "its key came as a credential" "" "$(guest one find /var/lib/gmesh-authority -name '*.key')"
    check "gmesh join as root" shell one "gmesh join \"\$(gmesh admin --operator /root/net/operator \
        invite --name one --role anchor)\" --state /var/lib/gmesh-node"
    equal "what root wrote belongs to the daemon" "_gmesh-node:_gmesh-node" \
        "$(guest one find /var/lib/gmesh-node -printf '%u:%g\n' | sort -u)"
    equal "its keys are for nobody else" "600 600" \
        "$(guest one stat -c %a /var/lib/gmesh-node/identity.key /var/lib/gmesh-node/noise.key | xargs)"
    began=$(now_ms)
    check "the node starts" guest one systemctl start gmesh-node
    passed "the node was READY after $(($(now_ms) - began)) ms"
    check "port 7443 accepts" guest one bash -c 'exec 3<>/dev/tcp/127.0.0.1/7443'
    equal "gmesh status as root" one "$(guest one gmesh status --json | json name)"
    guest one useradd --create-home --groups _gmesh-node member
    guest one useradd --create-home stranger
    equal "gmesh status as a member of the group" one "$(as one member gmesh status --json | json name)"
    check "gmesh status as anybody else is refused in one line" shell one \
        '! text=$(runuser -u stranger -- gmesh status 2>&1); test "$(wc -l <<<"$text")" -eq 1'
    eventually 15 logged_authority_reached || true
    check "the node reached the authority" logged_authority_reached
}

logged_authority_reached() { [ "$(guest one gmesh status --json | json authority reachable)" = True ]; }

# Who may look and who may also send, as docs/local-api.rst divides them, under the unit.
reading_group() {
    say "a group that may only look"
    shell one 'groupadd viewers
        useradd --create-home --groups viewers looker
        cp /etc/gmesh/node.toml /root/node.toml
        echo "read_group = \"viewers\"" >>/etc/gmesh/node.toml'
    drop_in one gmesh-node $'SupplementaryGroups=viewers\nSystemCallFilter=@chown'
    check "the node starts with the group added by a drop-in" guest one systemctl restart gmesh-node
    equal "who may look sees the status" one "$(as one looker gmesh status --json | json name)"
    check "but may not send" matches 'looker .*may not' "$(as one looker gmesh send one --service log hello 2>&1 || true)"
    shell one 'mv /root/node.toml /etc/gmesh/node.toml'
    drop_out one gmesh-node
    guest one systemctl restart gmesh-node
}

sandbox() {
    local unit pid
    say "what the kernel says of the processes"
    for unit in "${UNITS[@]}"; do
        pid=$(main_pid one "$unit")
        equal "$unit: its own user, no capability, no new privileges, seccomp" \
            "_$unit CapInh:0 CapPrm:0 CapEff:0 CapBnd:0 CapAmb:0 NoNewPrivs:1 Seccomp:2" \
            "$(guest one stat -c %U "/proc/$pid") $(guest one sed -nE \
                's/^(Cap[A-Za-z]+|NoNewPrivs|Seccomp):\s*0*([0-9a-f])$/\1:\2/p' "/proc/$pid/status" | xargs)"
        check "$unit: systemd-analyze security $(exposure "$unit") <= $LIVE_SECURITY" \
            awk -v found="$(exposure "$unit")" -v limit="$LIVE_SECURITY" 'BEGIN { exit !(found != "" && found <= limit) }'
    done
}

exposure() { guest one systemd-analyze security "$1.service" 2>/dev/null | tail -n 1 | grep -oE '[0-9]+\.[0-9]+'; }

die_and_return() {
    local unit pid
    say "killed, frozen, reloaded, stopped"
    for unit in "${UNITS[@]}"; do
        pid=$(main_pid one "$unit")
        signal_unit one "$unit" KILL
        check "$unit: back after kill -9" eventually 15 replaced one "$unit" "$pid"
        equal "$unit: restarted once" 1 "$(property one "$unit" NRestarts)"
    done
    for unit in "${UNITS[@]}"; do
        drop_in one "$unit" WatchdogSec=3
        guest one systemctl restart "$unit"
        pid=$(main_pid one "$unit")
        signal_unit one "$unit" STOP
        check "$unit: the watchdog notices a frozen daemon and restarts it" eventually 30 replaced one "$unit" "$pid"
        check "$unit: systemd says watchdog" eventually 10 logged one "$unit" "Failed with result 'watchdog'"
        sleep 4
        check "$unit: a running daemon feeds it" active one "$unit"
        drop_out one "$unit"
        guest one systemctl restart "$unit"
        pid=$(main_pid one "$unit")
        check "$unit: systemctl reload" guest one systemctl reload "$unit"
        equal "$unit: the same process after it" "$pid active" "$(main_pid one "$unit") $(property one "$unit" ActiveState)"
        check "$unit: it did reload" logged one "$unit" 'reload(ed)?: '
        clean_stop "$unit"
        guest one systemctl start "$unit"
    done
}

clean_stop() {
    local began took
    began=$(now_ms)
    guest one systemctl stop "$1"
    took=$(($(now_ms) - began))
    equal "$1: a clean stop (in $took ms)" "success inactive" "$(property one "$1" Result) $(property one "$1" ActiveState)"
    check "$1: within TimeoutStopSec" test "$took" -lt 20000
    check "$1: no traceback in its log" refuse logged one "$1" 'Traceback|Unhandled'
}

# pyOpenSSL under the sandbox: plain HTTP would never show that it cannot work.
tls() {
    say "TLS through the authority's unit"
    shell one "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=one \
        -addext subjectAltName=DNS:one -keyout /etc/gmesh/tls.key -out /etc/gmesh/tls.pem 2>/dev/null
        chown _gmesh-authority /etc/gmesh/tls.key
        echo 'ENDPOINT=ssl:8441:privateKey=/etc/gmesh/tls.key:certKey=/etc/gmesh/tls.pem' >>/etc/default/gmesh-authority
        systemctl restart gmesh-authority"
    check "an https request is answered under the sandbox" tls_request
    drop_in one gmesh-authority MemoryDenyWriteExecute=yes
    guest one systemctl restart gmesh-authority || true
    check "mutation: with MemoryDenyWriteExecute=yes the same request fails" refuse tls_request
    drop_out one gmesh-authority
    shell one "sed -i /^ENDPOINT=ssl/d /etc/default/gmesh-authority; rm /etc/gmesh/tls.*; systemctl restart gmesh-authority"
}

tls_request() {
    guest one curl -fsS --max-time 10 --cacert /etc/gmesh/tls.pem --resolve one:8441:127.0.0.1 https://one:8441/healthz
}

# AF_UNIX carries sd_notify: without it the unit can never become ready.
unix_sockets() {
    drop_in one gmesh-authority $'RestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_INET6\nTimeoutStartSec=6\nRestart=no'
    check "mutation: without AF_UNIX the unit is never READY" refuse guest one systemctl restart gmesh-authority
    drop_out one gmesh-authority
    guest one systemctl reset-failed gmesh-authority
    check "the authority starts again" guest one systemctl restart gmesh-authority
}

socket_activation() {
    local began
    say "socket activation on port 443"
    shell one 'mkdir -p /etc/systemd/system/gmesh-authority.service.d
        cp /usr/share/doc/gmesh-authority/examples/socket-activation.conf /etc/systemd/system/gmesh-authority.service.d/
        systemctl daemon-reload
        systemctl stop gmesh-authority
        systemctl enable --now gmesh-authority.socket'
    began=$(now_ms)
    check "the first request on port 443 starts the authority" port_443
    passed "it was answered after $(($(now_ms) - began)) ms"
    equal "without a capability" 0 "$(guest one sed -n 's/^CapEff:\t0*\([0-9a-f]\)/\1/p' "/proc/$(main_pid one gmesh-authority)/status")"
    guest one systemctl restart gmesh-authority
    check "port 443 answers after a restart" port_443
}

port_443() { guest one curl -fsS --max-time 10 http://127.0.0.1:443/healthz; }

# watch_port_443 NAME, then never_refused NAME: whether every connection in between was taken.
watch_port_443() {
    shell "$1" 'rm -f /run/refused; touch /run/watching
        while [ -e /run/watching ]; do
            (exec 3<>/dev/tcp/127.0.0.1/443) 2>/dev/null || date +%T.%N >>/run/refused
            sleep 0.05
        done' >/dev/null 2>&1 </dev/null &
    eventually 5 guest "$1" test -e /run/watching
}

never_refused() {
    guest "$1" rm /run/watching
    refuse guest "$1" cat /run/refused 2>/dev/null
}

# What the next release brings: another version, one more plugin in a file there was, one more migration.
next_release() {
    sed -i 's/^__version__ = .*/__version__ = "0.1.1"/' gmesh/__init__.py
    sed -n '/^gmesh_node = /,$p' twisted/plugins/gmesh_node.py |
        sed 's/gmesh-node/gmesh-probe/; s/^gmesh_node/gmesh_probe/' >"$WORK/probe"
    cat "$WORK/probe" >>twisted/plugins/gmesh_node.py
    printf 'CREATE TABLE packaging_probe (number INTEGER PRIMARY KEY);\n' >gmesh/authority/store/migrations/9999_packaging_probe.sql
}

upgrade() {
    local before pids unit
    say "upgrade to the next release"
    prepare_build_root && build_variant next 0.1.1-1 next_release || { failed "there is a next release"; return; }
    guest one twistd3 --help >/dev/null
    before=$(secrets one)
    pids=$(for unit in "${UNITS[@]}"; do main_pid one "$unit"; done)
    watch_port_443 one
    check "the upgrade installs" install_debs one next "${EVERYTHING[@]}"
    check "port 443 took every connection meanwhile" never_refused one
    for unit in "${UNITS[@]}"; do
        check "$unit: active after the upgrade" eventually 15 active one "$unit"
    done
    for unit in "${UNITS[@]}"; do
        check "$unit: started after the library and the list of plugins were in place" started_after_plugins "$unit"
    done
    check "both run as new processes" test "$pids" != "$(for unit in "${UNITS[@]}"; do main_pid one "$unit"; done)"
    check "port 443 is alive" port_443
    check "the new plugin is known although its file is older than the cache" \
        shell one 'twistd3 --help | grep gmesh-probe >/dev/null'
    equal "the command is the new one" "gmesh, version 0.1.1" "$(guest one gmesh --version)"
    equal "keys and certificates as before" "$before" "$(secrets one)"
    check "the database has the new schema" guest one python3 -c 'import sqlite3
sqlite3.connect("/var/lib/gmesh-authority/authority.sqlite").execute("SELECT * FROM packaging_probe")'
    check "and a backup of the old one lies beside it" guest one python3 -c 'import glob, sqlite3
(backup,) = glob.glob("/var/lib/gmesh-authority/authority-before-*.sqlite")
assert sqlite3.connect(backup).execute("SELECT max(number) FROM migration").fetchone()[0] < 9999'
    guest one systemctl disable --now gmesh-authority.socket
    drop_out one gmesh-authority
    guest one systemctl restart gmesh-authority
}

started_after_plugins() {
    local began
    began=$(guest one date -d "$(property one "$1" ExecMainStartTimestamp)" +%s)
    [ "$began" -ge "$(guest one stat -c %Y /usr/lib/python3/dist-packages/twisted/plugins/dropin.cache)" ]
}

remove_and_purge() {
    local before
    say "remove, reinstall, purge"
    before=$(secrets one)
    conffiles='/etc/default/gmesh-authority /etc/default/gmesh-node /etc/gmesh/authority.toml /etc/gmesh/node.toml'
    check "remove" guest one dpkg --remove gmesh-authority gmesh-node python3-gmesh
    equal "keys and certificates stay" "$before" "$(secrets one)"
    check "conffiles stay" guest one ls $conffiles
    check "the plugins are gone from twistd3 --help" shell one '! twistd3 --help | grep gmesh >/dev/null'
    check "the ports are closed" shell one '! ss -Htln | grep -E ":(443|7443|8440) "'
    check "reinstall" install_debs one next "${EVERYTHING[@]}"
    for unit in "${UNITS[@]}"; do
        check "$unit: active again without a new key" eventually 15 active one "$unit"
    done
    equal "the same keys and certificates" "$before" "$(secrets one)"
    check "purge" guest one dpkg --purge gmesh-authority gmesh-node python3-gmesh
    shell one 'rm -rf /root/net /home/member /home/stranger /home/looker; journalctl --quiet --rotate --vacuum-time=1s || true'
    equal "purge leaves nothing" "" "$(guest one find / -xdev -name '*gmesh*' -not -path '/debs*')"
    equal "but the two users" "_gmesh-authority _gmesh-node" \
        "$(guest one getent passwd | grep -o '^_gmesh-[a-z]*' | sort | xargs)"
    equal "nothing failed on the way" "" "$(guest one systemctl --failed --no-legend --plain)"
}

# What can be seen where no container boots: both daemons from their packages, in a chroot, as their users.
unbooted() {
    local root
    say "without a booted container: the daemons in a chroot"
    root=$(overlay "$RUN_ROOT" unbooted)
    chroot_mounts "$root"
    mkdir -p "${root:?}/debs" "${root:?}/tests" "${root:?}/tmp/daemons"
    cp "$DEBS"/first/{python3-gmesh,gmesh-authority,gmesh-node}_*.deb "${root:?}/debs/"
    cp "$TOP/debian/tests/daemons" "${root:?}/tests/"
    check "the packages install into a chroot" chroot "$root" sh -c 'dpkg -i /debs/*.deb'
    check "init, invite, join, and both daemons answer" unshare --net --fork --pid --kill-child -- bash -euc \
        'ip link set lo up; exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
            AUTOPKGTEST_TMP=/tmp/daemons timeout 120 sh /tests/daemons' daemons "$root"
    drop unbooted
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    prepare_containers "the booted life cycle" || {
        [ "$?" -ne "$CANNOT_BOOT" ] || unbooted
        exit 0
    }
    container one 1
    boot one
    install_without_keys
    start_both
    reading_group
    sandbox
    die_and_return
    tls
    unix_sockets
    socket_activation
    upgrade
    remove_and_purge
    discard one
fi
