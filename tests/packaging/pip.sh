#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Beside Debian: installs by pip, editable, and by setup.py, into fresh environments from PyPI.
. "$(dirname "$0")/build.sh"

TWISTD='from twisted.scripts.twistd import run; run()'

find_python() {
    local candidate
    for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python3; do
        if [ -x "$candidate" ] && "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

both_listed() { [ "$(cd / && "$1" -c "$TWISTD" --help | grep -cE '^ +gmesh-(authority|node) ')" = 2 ]; }

# try VERSION: everything on one Python.
try() {
    local python source=$WORK/pip-$1/source environment=$WORK/pip-$1/environment
    python=$(find_python "$1")
    if [ -z "$python" ]; then
        not_run "pip on Python $1: there is none here"
        return
    fi
    source_tree "$source"
    "$python" -m venv "$environment"
    local bin=$environment/bin/python
    if ! "$bin" -m pip install --quiet --disable-pip-version-check "$source" >"$LOGS/pip-$1.log" 2>&1; then
        tail -n 3 "$LOGS/pip-$1.log"
        failed "Python $1: pip install ."
        return
    fi
    check "Python $1: pip install . brings both daemons" both_listed "$bin"
    equal "Python $1: top_level.txt" gmesh "$("$bin" -c 'from importlib.metadata import distribution
print(*distribution("gmesh").read_text("top_level.txt").split())')"
    "$bin" -m pip uninstall --quiet --yes gmesh
    check "Python $1: Twisted works after uninstalling" "$bin" -c 'import twisted.plugins, twisted.internet.defer'
    check "Python $1: nothing of gmesh is listed any more" refuse both_listed "$bin"
    (cd / && "$bin" -m pip install --quiet --disable-pip-version-check --no-deps --editable "$source") >>"$LOGS/pip-$1.log" 2>&1
    check "Python $1: pip install -e . from another directory brings both daemons" both_listed "$bin"
    "$bin" -m pip uninstall --quiet --yes gmesh
    "$bin" -m pip install --quiet --disable-pip-version-check 'setuptools<80' >>"$LOGS/pip-$1.log" 2>&1
    (cd "$source" && "$bin" setup.py -q install --single-version-externally-managed --record "$WORK/pip-$1/record") \
        >>"$LOGS/pip-$1.log" 2>&1
    check "Python $1: setup.py install brings both daemons" both_listed "$bin"
    "$bin" -m pip uninstall --quiet --yes gmesh >>"$LOGS/pip-$1.log" 2>&1
    check "Python $1: Twisted works after uninstalling that" "$bin" -c 'import twisted.plugins, twisted.internet.defer'
}

try 3.11
try 3.13
