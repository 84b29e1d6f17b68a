#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Four booted hosts on a private network: an authority, and three nodes whose images were built with a seed file.
# a and c know only b: what they tell each other goes through it.
. "$(dirname "$0")/lifecycle.sh"

declare -A NUMBER=([authority]=1 [a]=11 [b]=12 [c]=13 [spare]=14)
# The packages the fleet begins with.
RELEASE=first
AUTHORITY_URL=http://$SUBNET.1:8440

# image NAME: a root with the packages in it, made as an image builder makes it, without a running system.
image() {
    local root
    container "$1" "${NUMBER[$1]}"
    root=$(root_of "$1")
    cp "$DEBS/$RELEASE"/python3-gmesh_*.deb "$DEBS/$RELEASE"/gmesh-"$2"_*.deb "${root:?}/debs/"
    chroot_mounts "$root"
    chroot "$root" sh -c 'dpkg -i /debs/*.deb' >"$LOGS/image-$1.log" 2>&1
    umount -R "${root:?}/proc" "${root:?}/sys" "${root:?}/dev"
    rm "$root"/debs/*.deb
}

# seed NAME INVITE: the example script of the package, as shipped.
seed() {
    local root
    root=$(root_of "$1")
    sh "${root:?}/usr/share/doc/gmesh-node/examples/build-image" "$root" "$1" "$2"
}

# has_links NAME "PEER...": the neighbours are these; has_path FROM TO "NAME...": and the way there is this.
has_links() {
    local found
    found=$(guest "$1" gmesh peers --json) || return 1
    python3 -c 'import json, sys
found = " ".join(sorted(peer["name"] for peer in json.loads(sys.argv[1])))
sys.exit(found != sys.argv[2] and f"links: {found}")' "$found" "$2"
}
has_path() {
    local found
    found=$(guest "$1" gmesh routes --json) || return 1
    python3 -c 'import json, sys
found = {route["name"]: " ".join(route["path"]) for route in json.loads(sys.argv[1])}
sys.exit(found.get(sys.argv[2]) != sys.argv[3] and f"routes: {found}")' "$found" "$2" "$3"
}

# message FROM TO: one acknowledged message through the units, and what arrived.
message() {
    local from=$1 to=$2 text="from $1 to $2 at $(now_ms)" receiver
    guest "$to" timeout 60 gmesh receive --service packaging --count 1 --json >"$WORK/received-$to" 2>&1 </dev/null &
    receiver=$!
    eventually 10 serves "$to" packaging || return 1
    if ! guest "$from" timeout 40 gmesh send "$to" --service packaging --timeout 30 "$text"; then
        kill "$receiver" 2>/dev/null || true
        wait "$receiver" || true
        return 1
    fi
    wait "$receiver" || { cat "$WORK/received-$to"; return 1; }
    python3 -c 'import base64, json, sys
message = json.load(open(sys.argv[1]))
assert (message["from"], base64.b64decode(message["data"]).decode()) == (sys.argv[2], sys.argv[3]), message' \
        "$WORK/received-$to" "$from" "$text"
}

# The services of the mesh are listed; this node takes messages to it.
serves() {
    guest "$1" gmesh services --json | python3 -c 'import json, sys
rows = json.load(sys.stdin)
sys.exit(not any(row["service"] == sys.argv[1] and row["messages"] for row in rows))' "$2"
}

both_ways() { message a c && message c a; }

build_images() {
    local name
    say "an authority, and the images of three appliances"
    for name in a b c; do
        check "gmesh-node installs into an image that does not run" image "$name" node
    done
    check "gmesh-authority too" image authority authority
    boot authority
    found_network authority "$AUTHORITY_URL" --anchor "b=$SUBNET.12:7443"
    shell authority "echo 'ENDPOINT=tcp:8440' >>/etc/default/gmesh-authority; systemctl start gmesh-authority"
    seed a "$(invite authority a client)"
    seed b "$(invite authority b anchor)"
    seed c "$(invite authority c client)"
}

first_boot() {
    local name began
    say "first boot without hands"
    began=$(now_ms)
    boot b
    boot a
    for name in b a; do
        check "$name: enrolled by its seed file, and running" eventually 30 active "$name" gmesh-node
        check "$name: the seed file is gone" refuse test -e "$(root_of "$name")/etc/gmesh/invite.seed"
        equal "$name: nothing failed" "" "$(guest "$name" systemctl --failed --no-legend --plain)"
    done
    passed "both were up $(($(now_ms) - began)) ms after the first was switched on"
    # c is switched on while the authority cannot be reached: it must find in by itself, later.
    guest authority systemctl stop gmesh-authority
    boot c
    check "c: no authority at its first boot: the node is skipped" refuse active c gmesh-node
    check "c: the seed file is kept" test -e "$(root_of c)/etc/gmesh/invite.seed"
    guest authority systemctl start gmesh-authority
    check "c: enrolled and running once the authority is there" eventually 60 active c gmesh-node
    check "c: the seed file is gone" refuse test -e "$(root_of c)/etc/gmesh/invite.seed"
    check "another library called noise is installed there" guest a python3 -c '
import noise, importlib.util
assert importlib.util.find_spec("noise.connection") is None'
}

route() {
    say "A - B - C"
    check "b has links to a and c" eventually 30 has_links b "a c"
    check "a has a link to b only" has_links a b
    check "c has a link to b only" has_links c b
    check "the way from a to c leads through b" eventually 30 has_path a c "a b c"
    check "a message from a to c" message a c
    check "a message from c to a" message c a
    check "gmesh ping" guest a gmesh ping c --count 3
    check "gmesh trace shows every hop" guest a gmesh trace c
    check "gmesh doctor finds nothing wrong with b" guest b gmesh doctor
    check "nor with a" guest a gmesh doctor
    check "b cannot have read them: its journal and state hold no word" refuse \
        shell b 'grep -rqs "from a to c" /var/lib/gmesh-node || journalctl | grep "from a to c" >/dev/null'
}

disturb() {
    local pid began
    say "the relay is killed, frozen; the authority is away"
    pid=$(main_pid b gmesh-node)
    signal_unit b gmesh-node KILL
    began=$(now_ms)
    check "b: back after kill -9" eventually 15 replaced b gmesh-node "$pid"
    check "b has its links again" eventually 30 has_links b "a c"
    passed "$(($(now_ms) - began)) ms after the kill"
    check "messages pass again" eventually 60 both_ways
    passed "both ways $(($(now_ms) - began)) ms after the kill"
    drop_in b gmesh-node WatchdogSec=3
    guest b systemctl restart gmesh-node
    pid=$(main_pid b gmesh-node)
    signal_unit b gmesh-node STOP
    check "b: the watchdog restarts a frozen relay" eventually 30 replaced b gmesh-node "$pid"
    drop_out b gmesh-node
    check "messages pass again" eventually 60 both_ways
    guest authority systemctl stop gmesh-authority
    guest b systemctl restart gmesh-node
    guest a systemctl restart gmesh-node
    check "without the authority, after restarts: messages pass" eventually 60 both_ways
    guest authority systemctl start gmesh-authority
    check "reload of the relay loses no link" relay_reload
}

relay_reload() {
    local before
    before=$(main_pid b gmesh-node)
    guest b systemctl reload gmesh-node && has_links b "a c" && [ "$(main_pid b gmesh-node)" = "$before" ]
}

# A fleet is upgraded host by host: every mixture on the way has to work.
rolling_upgrade() {
    local name before
    say "a rolling upgrade, the authority first"
    prepare_build_root && build_variant next 0.1.1-1 next_release || { failed "there is a next release"; return; }
    for name in authority b a c; do
        before=$(secrets "$name")
        case $name in
        authority) check "the authority: upgraded" install_debs authority next python3-gmesh gmesh-authority ;;
        c) upgrade_over_ssh ;;
        *) check "$name: upgraded" install_debs "$name" next python3-gmesh gmesh-node ;;
        esac
        equal "$name: keys and certificates as before" "$before" "$(secrets "$name")"
        check "$name is newer than what is still to do: messages pass" eventually 60 both_ways
    done
    check "b: downgrade to the release before" install_debs b first python3-gmesh gmesh-node
    check "b is older than its neighbours: messages pass" eventually 60 both_ways
}

# From a, through b, to c, which upgrades itself in that session: by the files of the manual and of the package.
upgrade_over_ssh() {
    local before
    say "c is upgraded over ssh, which runs through its own node"
    guest a install -D -m 0644 /usr/share/doc/gmesh-node/examples/gmesh.ssh_config /etc/ssh/ssh_config.d/gmesh.conf
    guest a ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519
    install -D -m 0600 "$(root_of a)/root/.ssh/id_ed25519.pub" "$(root_of c)/root/.ssh/authorized_keys"
    shell c 'printf "\n[[expose]]\nservice = \"ssh\"\nto = \"tcp:127.0.0.1:22\"\n" >>/etc/gmesh/node.toml
        systemctl reload gmesh-node'
    check "ssh reaches c through the mesh" eventually 30 over_ssh true
    equal "the session is a stream from a" "a ssh" "$(over_ssh gmesh streams --json | json_streams)"
    before=$(main_pid c gmesh-node)
    check "apt-get upgrades the node, and the session tells how it ended" over_ssh \
        'apt-get install --yes /debs/next/python3-gmesh_*.deb /debs/next/gmesh-node_*.deb </dev/null'
    equal "dpkg is whole" "" "$(guest c dpkg --audit)"
    equal "c has the next release" "0.1.1-1" "$(guest c dpkg-query -Wf '${Version}' gmesh-node)"
    check "its daemon restarts when dpkg is done" eventually 60 replaced c gmesh-node "$before"
    check "and a new session runs through it" eventually 60 over_ssh true
}

over_ssh() { guest a timeout 120 ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new c.gmesh "$@"; }

json_streams() {
    python3 -c 'import json, sys
print(*(" ".join((stream["peer"], stream["service"])) for stream in json.load(sys.stdin)))'
}

revoke() {
    local began
    say "revoke"
    began=$(now_ms)
    check "the operator revokes c" admin authority revoke c
    check "b has cut c off" eventually 30 has_links b a
    passed "$(($(now_ms) - began)) ms after the operator asked for it"
    check "a cannot send to c any more" refuse guest a gmesh send c --service packaging --timeout 3 no
    sleep 3
    check "c does not get in again" has_links b a
    check "c: the daemon is alive and says why" logged c gmesh-node 'revoked'
}

# As the manual has it, seed file elsewhere included.
repair() {
    local before
    say "c comes back from repair"
    before=$(secrets c)
    shell c 'systemctl stop gmesh-node
        find /var/lib/gmesh-node -mindepth 1 -delete
        mkdir -p /data /etc/systemd/system/gmesh-node-enrol.service.d'
    manual_block ini >"$(root_of c)/etc/systemd/system/gmesh-node-enrol.service.d/seed.conf"
    (umask 077 && invite authority c client >"$(root_of c)/data/invite.seed")
    shell c 'systemctl daemon-reload; systemctl restart gmesh-node-enrol'
    check "emptied and with a new invite, it enrols itself" eventually 30 active c gmesh-node
    check "the seed file, which lay elsewhere, is gone" refuse test -e "$(root_of c)/data/invite.seed"
    check "its keys are new ones" test "$before" != "$(secrets c)"
    check "messages pass" eventually 60 both_ways
}

# manual_block LANGUAGE: what the manual shows in that language.
manual_block() {
    sed -n "/^\.\. code-block:: $1\$/,/^[^ ]/s/^    //p" "$TOP/docs/operations-appliances.rst"
}

replace_and_purge() {
    say "replace, purge"
    admin authority revoke c >/dev/null
    image spare node
    seed spare "$(invite authority c client --approve)"
    boot spare
    check "another machine, under the name of c, waits for an approval" eventually 30 \
        logged spare gmesh-node-enrol 'approve'
    check "meanwhile its node is skipped" refuse active spare gmesh-node
    check "the operator approves it" admin authority enrolments approve c
    check "it enrols itself soon" eventually 60 active spare gmesh-node
    check "and messages for c reach it" eventually 30 message_to_spare

    check "purge on c" guest c dpkg --purge gmesh-node python3-gmesh
    shell c 'rm -r /etc/systemd/system/gmesh-node-enrol.service.d'
    equal "nothing stays on c" "" "$(guest c find / -xdev -name '*gmesh*' -not -path '/debs*' -not -path '/var/log/journal/*')"
    check "the others go on" eventually 20 message_to_spare
}

message_to_spare() {
    guest spare timeout 60 gmesh receive --service packaging --count 1 --json >"$WORK/received-spare" 2>&1 </dev/null &
    local receiver=$!
    eventually 10 serves spare packaging &&
        guest a timeout 20 gmesh send c --service packaging --timeout 10 hello && wait "$receiver" ||
        { kill "$receiver" 2>/dev/null; wait "$receiver"; return 1; }
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    prepare_containers "the booted mesh" || exit 0
    build_images
    first_boot
    route
    disturb
    rolling_upgrade
    revoke
    repair
    replace_and_purge
    for name in spare c a b authority; do
        discard "$name"
    done
fi
