# SPDX-License-Identifier: MIT
# What the parts of tests/packaging share: verdicts, a work space, the tools of this host. Sourced by bash.
set -Eeuo pipefail
trap 'echo "${BASH_SOURCE[0]##*/}, line $LINENO, status $?: $BASH_COMMAND" >&2' ERR

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$HERE/../.." && pwd)
SUITE=${GMESH_PACKAGING_SUITE:-trixie}
CACHE=${GMESH_PACKAGING_CACHE:-/var/tmp/gmesh-packaging}
CACHE_DAYS=7
MIRROR=${GMESH_PACKAGING_MIRROR:-}
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

# The work space of one run: roots, packages, logs. "run" makes it and removes it.
WORK=${GMESH_PACKAGING_WORK:?start this through tests/packaging/run}
RESULTS=$WORK/results
LOGS=$WORK/logs
# Packages already made may be given, to repeat a part: first/ and, if there, next/.
DEBS=${GMESH_PACKAGING_DEBS:-$WORK/debs}
mkdir -p "$LOGS" "$DEBS"

say() { printf '\n== %s (%d s)\n' "$*" "$(($(date +%s) - GMESH_PACKAGING_BEGAN))"; }

passed() {
    printf 'ok       %s\n' "$*"
    printf 'ok %s\n' "$*" >>"$RESULTS"
}

failed() {
    printf 'FAILED   %s\n' "$*"
    printf 'failed %s\n' "$*" >>"$RESULTS"
}

# What this machine cannot do is told loudly, here and again at the end; it is never a pass.
not_run() {
    printf '\n!! NOT RUN: %s\n\n' "$*"
    printf 'not-run %s\n' "$*" >>"$RESULTS"
}

# check TEXT COMMAND...: one verdict; what the command wrote is shown when it fails.
check() {
    local text=$1 output
    shift
    if output=$("$@" 2>&1 </dev/null); then
        passed "$text"
    else
        failed "$text"
        tail -n "${CHECK_LINES:-15}" <<<"$output" | sed 's/^/         | /'
        return 0
    fi
}

# equal TEXT EXPECTED ACTUAL
equal() {
    if [ "$2" = "$3" ]; then
        passed "$1"
    else
        failed "$1"
        printf '         | expected: %s\n         | found:    %s\n' "$2" "$3"
    fi
}

# line_in LINE TEXT, matches REGEX TEXT: a whole line, or a pattern, in a text.
line_in() { grep -qxF -- "$1" <<<"$2" || { echo "no line: $1"; return 1; }; }
matches() { grep -E -- "$1" <<<"$2"; }

# refuse COMMAND...: succeeds when the command fails.
refuse() { ! "$@"; }

# eventually SECONDS COMMAND...: asks again until the command succeeds, for things that take their time.
eventually() {
    local end=$(($(date +%s) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || { "$@"; return; }
        sleep 0.1
    done
}

now_ms() { date +%s%3N; }

# Install packages of this host that are missing; COMMAND:PACKAGE pairs.
need_tools() {
    local pair missing=()
    for pair; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "installing on this host: ${missing[*]}"
    apt-get -q update >"$LOGS/host-apt.log" 2>&1 || true
    apt-get -qy install --no-install-recommends "${missing[@]}" >>"$LOGS/host-apt.log" 2>&1 || {
        tail -n 5 "$LOGS/host-apt.log"
        return 1
    }
}
