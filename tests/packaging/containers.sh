# SPDX-License-Identifier: MIT
# Booted Debian containers, each in a network namespace of its own, all on one bridge without a way out.
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"

NET=gm${GMESH_PACKAGING_WORK##*.}
SUBNET=10.77.0
CANNOT_BOOT=3
declare -A LEADER BOOTED

# network: the bridge.
network() {
    ip netns add "$NET"
    ip -n "$NET" link add name bridge type bridge
    ip -n "$NET" link set dev bridge up
}

# container NAME NUMBER: a fresh root with the address 10.77.0.NUMBER, not booted yet.
container() {
    local name=$1 number=$2 root
    [ -e "/run/netns/$NET" ] || network
    root=$(overlay "$RUN_ROOT" "$name")
    # Without this, a failed overlay would have the lines below write to this host's own /etc.
    [ -d "${root:?no overlay for $name}/etc" ] || return 1
    printf '%s\n' "$name" >"${root:?}/etc/hostname"
    printf '127.0.0.1 localhost\n' >"${root:?}/etc/hosts"
    # As systemd wants it before a first boot: else it would ask questions at the console.
    tr -d - </proc/sys/kernel/random/uuid >"${root:?}/etc/machine-id"
    rm -f "${root:?}/etc/resolv.conf"
    mkdir -p "${root:?}/debs" "${root:?}/var/log/journal"
    ip netns add "$NET-$name"
    ip -n "$NET-$name" link set dev lo up
    ip -n "$NET" link add name "to-$name" type veth peer name eth0 netns "$NET-$name"
    ip -n "$NET" link set dev "to-$name" master bridge up
    ip -n "$NET-$name" address add "$SUBNET.$number/24" dev eth0
    ip -n "$NET-$name" link set dev eth0 up
}

root_of() { echo "$WORK/overlay/$1/root"; }

# cgroups: the directories of this shell in the hierarchies that systemd uses.
cgroups() {
    local mount
    mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -z "$mount" ] || echo "$mount$(sed -n 's/^0:://p' /proc/self/cgroup)"
    mount=$(awk '$3 == "cgroup" && $4 ~ /name=systemd/ { print $2; exit }' /proc/mounts)
    [ -z "$mount" ] || echo "$mount$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup)"
}

# own_cgroup NAME: containers in one control group would kill each other's services.
own_cgroup() {
    local directory
    for directory in $(cgroups); do
        mkdir -p "$directory/$1"
        echo "$BASHPID" >"$directory/$1/cgroup.procs"
    done
}

leave_cgroup() {
    local directory
    for directory in $(cgroups); do
        find "$directory/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

# boot NAME: returns when systemd says that the system is up.
boot() {
    local name=$1 pid
    (
        own_cgroup "$NET-$name"
        exec systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off \
            --directory="$(root_of "$name")" --machine="$NET-$name" --hostname="$name" \
            --network-namespace-path="/run/netns/$NET-$name" --bind-ro="$DEBS:/debs" \
            --boot --console=pipe
    ) >>"$LOGS/boot-$name.log" 2>&1 </dev/null &
    pid=$!
    BOOTED[$name]=$pid
    echo "$pid" >>"$WORK/pids"
    eventually 30 begun_or_dead "$pid" || return 1
    LEADER[$name]=$(pgrep -P "$pid" -x systemd) || return 1
    eventually 60 booted "$name"
}

begun_or_dead() { pgrep -P "$1" -x systemd || ! kill -0 "$1"; }

booted() { [[ $(guest "$1" systemctl is-system-running) =~ ^(running|degraded)$ ]]; }

# guest NAME COMMAND...: run a command inside a booted container, as root.
guest() {
    local name=$1
    shift
    nsenter --target "${LEADER[$name]}" --all --root --wd -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive "$@"
}

# shell NAME SCRIPT: the same for a piece of bash.
shell() { guest "$1" bash -euo pipefail -c "$2"; }

# as NAME USER COMMAND...: the same as another user of the container.
as() {
    local name=$1 user=$2
    shift 2
    guest "$name" runuser -u "$user" -- "$@"
}

halt() {
    guest "$1" journalctl --no-pager >"$LOGS/journal-$1.log" 2>/dev/null || true
    guest "$1" systemctl poweroff >/dev/null 2>&1 || true
    eventually 40 refuse kill -0 "${BOOTED[$1]}" || kill -KILL "${BOOTED[$1]}"
    wait "${BOOTED[$1]}" 2>/dev/null || true
    leave_cgroup "$NET-$1"
}

# discard NAME: halt a container and delete it.
discard() {
    halt "$1"
    ip netns del "$NET-$1"
    drop "$1"
    unset "BOOTED[$1]" "LEADER[$1]"
}

property() { guest "$1" systemctl show -P "$3" "$2"; }
journal() { guest "$1" journalctl --no-pager -o cat -u "$2"; }
logged() { journal "$1" "$2" | grep -E -- "$3" >/dev/null; }
main_pid() { property "$1" "$2" MainPID; }

# signal_unit NAME UNIT SIGNAL: to its main process; "kill 0" would hit these scripts themselves.
signal_unit() {
    local pid
    pid=$(main_pid "$1" "$2")
    [ "${pid:-0}" -gt 1 ] && guest "$1" kill "-$3" "$pid"
}

# replaced NAME UNIT PID: the unit runs, as another process; asked at once, for in between it is "active" without one.
replaced() {
    local found
    found=$(guest "$1" systemctl show -p ActiveState -p MainPID "$2" | sort | xargs)
    [[ $found =~ ^ActiveState=active\ MainPID=[1-9][0-9]*$ && $found != *"MainPID=$3" ]]
}

# active NAME UNIT
active() { guest "$1" systemctl --quiet is-active "$2"; }

# install_debs NAME DIRECTORY-OF-DEBS [PACKAGE...]: as an administrator would; output in the log.
install_debs() {
    local name=$1 version=$2 package files=()
    shift 2
    for package in "${@:-python3-gmesh}"; do
        files+=("$(cd "$DEBS/$version" && echo "$package"_*.deb)")
    done
    guest "$name" bash -c 'cd "/debs/$1" && shift && dpkg --force-confdef --force-confold -i "$@"' \
        dpkg "$version" "${files[@]}" >>"$LOGS/dpkg-$name.log" 2>&1 && eventually 60 restarted "$name"
}

# restarted NAME: the node, which restarts when dpkg is done, has done so.
restarted() { [ -z "$(guest "$1" systemctl list-units --plain --no-legend 'gmesh-node-restart-*')" ]; }

EVERYTHING=(python3-gmesh gmesh-authority gmesh-node)

# Runs in a container whose authority unit shall serve: the ceremony of gmesh-authority(8).
# found_network NAME URL [INIT-OPTION...]
found_network() {
    local name=$1 url=$2
    shift 2
    guest "$name" gmesh init /root/net --network packaged --authority-url "$url" "$@" >>"$LOGS/init-$name.log" &&
        shell "$name" 'cd /root/net/authority
            install -m 0600 authority.key /etc/gmesh/authority.keys/
            install -m 0600 -o _gmesh-authority -g _gmesh-authority \
                genesis.json operators.json policy-initial.json /var/lib/gmesh-authority/'
}

# admin NAME ARGUMENT...: as the operator, where his directory is.
admin() {
    local name=$1
    shift
    guest "$name" gmesh admin --operator /root/net/operator "$@"
}

# invite NAME NODE ROLE [OPTION...]: a new invite.
invite() { admin "$1" invite --name "$2" --role "$3" "${@:4}"; }

# The keys and certificates of a host, to compare.
secrets() {
    shell "$1" 'cd / && { find etc/gmesh/authority.keys var/lib/gmesh-authority var/lib/gmesh-node -type f \
        \( -name "*.key" -o -name "certificate.json" -o -name "genesis.json" \) -print0 2>/dev/null || true; } |
        sort -z | xargs -0 sha256sum'
}

# prepare_containers: false, after saying so, where this machine cannot boot one.
prepare_containers() {
    if ! RUN_ROOT=$(root run "$SUITE" "$(run_packages)"); then
        not_run "$1: no $SUITE root to run in (no network, and none in $CACHE)"
        return 1
    fi
    # A part that is run alone builds its packages, without their suite.
    if [ ! -e "$DEBS/first" ] && ! { prepare_build_root && build_variant first "" true; }; then
        not_run "$1: there are no packages"
        return 1
    fi
    if ! container probe 250 || ! boot probe; then
        not_run "$1: systemd-nspawn cannot boot a container here: $(tail -n 1 "$LOGS/boot-probe.log" 2>/dev/null)"
        return "$CANNOT_BOOT"
    fi
    discard probe
}

# json KEY...: a member of the JSON document on standard input, or nothing.
json() {
    python3 -c 'import json, sys
try:
    value = json.load(sys.stdin)
    for key in sys.argv[1:]: value = value[key]
    print(value)
except (ValueError, KeyError):
    pass' "$@"
}

# Whatever happens, no container and no namespace outlives its part.
end_containers() {
    local name
    for name in "${!BOOTED[@]}"; do
        timeout 10 nsenter --target "${LEADER[$name]:-0}" --all --root -- journalctl --no-pager >"$LOGS/journal-$name.log" 2>/dev/null || true
        kill -TERM "${BOOTED[$name]}" 2>/dev/null || true
    done
    for name in "${!BOOTED[@]}"; do
        eventually 20 refuse kill -0 "${BOOTED[$name]}" 2>/dev/null || kill -KILL "${BOOTED[$name]}" 2>/dev/null || true
        leave_cgroup "$NET-$name"
    done
    for name in $(ip netns list | awk -v net="$NET" 'index($1, net) == 1 { print $1 }'); do
        ip netns del "$name" || true
    done
}
trap end_containers EXIT
