# SPDX-License-Identifier: MIT
"""
The TOML file of a daemon: the names of its options, and values of the kind that each has.

Tests: C{tests/node/test_configuration.py}, C{tests/authority/test_options.py}.
"""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gmesh.errors import ConfigurationError
from gmesh.files import read_capped

__all__ = ["MAX_SETTINGS_FILE", "read_settings"]

MAX_SETTINGS_FILE = 1024 * 1024
"""Bytes."""
_WANTED = {
    list: "a list of strings",
    dict: "a table of strings",
    bool: "true or false",
    int: "a whole number",
    str: "a string",
}


def read_settings(file: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """
    What the file says, by names with underscores; it may have dashes.

    @param kinds: C{str}, C{bool}, C{int}, C{list} for one of strings or C{dict} for a table of them, by name.
    @raise ConfigurationError: one line naming the file, the key and what is wrong.
    """
    data = read_capped(file, MAX_SETTINGS_FILE)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigurationError("bad-configuration", f"{file} is UTF-16 text: save it as UTF-8")
    try:
        # Editors of Windows put a mark before the text.
        values = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError("bad-configuration", f"{file} is not TOML: {error}") from error
    values = {name.replace("-", "_"): value for name, value in values.items()}
    for name, value in values.items():
        if name not in kinds:
            near = get_close_matches(name, kinds, 1)
            hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(kinds)}"
            raise ConfigurationError("bad-configuration", f"{file}: unknown key {name!r}{hint}")
        kind = kinds[name]
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if type(value) is not kind or not all(isinstance(item, str) for item in items):
            raise ConfigurationError("bad-configuration", f"{file}: {name} must be {_WANTED[kind]}")
    return values
