#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A fleet that began with an older release, made from that release's own source, is brought to this tree
# host by host: the authority with its database first, then a relay, then what lies behind it.
. "$(dirname "$0")/mesh.sh"

# The newest release that this tree is not; before there are any, the commit below, whose packages were judged good.
OLDER=${GMESH_PACKAGING_OLDER:-$(git -C "$TOP" describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null || echo 75a0e0f)}

older_source() {
    find . -mindepth 1 -delete
    git -C "$TOP" archive "$OLDER" | tar -x
    sed -i '1s/([^)]*)/(0.0.9-1)/' debian/changelog
}

# schema NAME: the number of the newest migration in the authority's database there, or in a copy of it.
schema() {
    guest "$1" python3 -c 'import glob, sqlite3, sys
(path,) = glob.glob("/var/lib/gmesh-authority/" + sys.argv[1])
print(sqlite3.connect(path).execute("SELECT max(number) FROM migration").fetchone()[0])' "$2"
}

# newest_schema [RELEASE]: the number of the newest migration that the packages bring.
newest_schema() {
    dpkg-deb -c "$DEBS/${1:-first}"/python3-gmesh_*.deb | sed -nE 's,.*/migrations/0*([0-9]+)_.*\.sql$,\1,p' | sort -n | tail -n 1
}

begin() {
    local name
    say "a fleet of the older release ($OLDER)"
    RELEASE=older
    for name in a b c; do image "$name" node; done
    image authority authority
    boot authority
    found_network authority "$AUTHORITY_URL" --anchor "b=$SUBNET.12:7443"
    shell authority "echo 'ENDPOINT=tcp:8440' >>/etc/default/gmesh-authority; systemctl start gmesh-authority"
    seed a "$(invite authority a client)"
    seed b "$(invite authority b anchor)"
    seed c "$(invite authority c client)"
    for name in b a c; do
        boot "$name"
        check "$name: enrolled with the older release" eventually 40 active "$name" gmesh-node
    done
    check "messages pass through b" eventually 60 both_ways
}

upgrade_authority() {
    local before nodes
    say "the authority gets this release"
    before=$(secrets authority)
    BEFORE_SCHEMA=$(schema authority authority.sqlite)
    nodes=$(admin authority nodes --json | json_names)
    check "upgraded" install_debs authority first python3-gmesh gmesh-authority
    check "active" eventually 15 active authority gmesh-authority
    equal "keys as before" "$before" "$(secrets authority)"
    equal "the database has the schema of this release" "$(newest_schema)" "$(schema authority authority.sqlite)"
    if [ "$BEFORE_SCHEMA" != "$(newest_schema)" ]; then
        equal "a backup with schema $BEFORE_SCHEMA lies beside it" "$BEFORE_SCHEMA" "$(schema authority 'authority-before-*.sqlite')"
    fi
    equal "it knows the same nodes" "$nodes" "$(admin authority nodes --json | json_names)"
    check "its audit is whole" admin authority audit --verify
    check "nodes of the older release pass messages" eventually 60 both_ways
    for name in a b c; do
        check "$name, of the older release, reaches it" eventually 60 reaches_authority "$name"
    done
}

json_names() {
    python3 -c 'import json, sys
found = json.load(sys.stdin)
print(*sorted(node["name"] for node in (found["nodes"] if isinstance(found, dict) else found)))'
}

reaches_authority() { [ "$(guest "$1" gmesh status --json | json authority reachable)" = True ]; }

upgrade_nodes() {
    local name before
    for name in b a c; do
        say "$name gets this release"
        before=$(secrets "$name")
        check "$name: upgraded" install_debs "$name" first python3-gmesh gmesh-node
        check "$name: active" eventually 15 active "$name" gmesh-node
        equal "$name: keys and certificates as before" "$before" "$(secrets "$name")"
        check "messages pass" eventually 60 both_ways
        check "$name reaches the authority" eventually 60 reaches_authority "$name"
    done
    check "b: back to the older release" install_debs b older python3-gmesh gmesh-node
    check "an older relay between newer nodes: messages pass" eventually 60 both_ways
    check "the operator revokes c" admin authority revoke c
    check "the older relay cuts c off" eventually 30 has_links b a
    check "no daemon failed on the way" no_tracebacks
}

# As the manual has it.
go_back() {
    say "the authority goes back"
    if [ "$(schema authority authority.sqlite)" = "$(newest_schema older)" ]; then
        echo "the older release has the same schema"
        return
    fi
    install_debs authority older python3-gmesh gmesh-authority || true
    check "the older authority refuses the newer database, and says so" eventually 15 \
        logged authority gmesh-authority 'newer'
    cp "$(root_of a)"/var/lib/gmesh-node/{crl,policy}.json "$(root_of authority)/root/"
    check "the copy is restored by the manual's commands" shell authority "cd /root
        $(manual_block sh | sed "s/NUMBER/*/")"
    check "it runs" eventually 15 active authority gmesh-authority
    equal "and knows the nodes it had" "a b c" "$(admin authority nodes --json | json_names)"
    check "what was revoked since stays revoked" revoked_is_listed
    check "newer nodes reach it" eventually 90 reaches_authority a
}

revoked_is_listed() { admin authority nodes --json | grep -A 20 '"c"' | grep -E '"revoked": *true'; }

no_tracebacks() {
    local name
    for name in a b c; do
        ! journal "$name" gmesh-node | grep -A 12 -m 1 Traceback || return 1
    done
    ! journal authority gmesh-authority | grep -A 12 -m 1 Traceback
}

if ! git -C "$TOP" cat-file -e "$OLDER^{commit}" 2>/dev/null; then
    not_run "an upgrade from an older release: its source ($OLDER) is not in this clone"
    exit 0
fi
prepare_containers "an upgrade from an older release" || exit 0
prepare_build_root && build_variant older "" older_source || { failed "the older release can be built"; exit 0; }
begin
upgrade_authority
upgrade_nodes
go_back
for name in c a b authority; do
    discard "$name"
done
