# SPDX-License-Identifier: MIT
"""
The TOML file of a daemon: the names of its options, and values of the kind that each has.

Tests: C{tests/node/test_configuration.py}, C{tests/authority/test_options.py}.
"""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gmesh.errors import ConfigurationError
from gmesh.files import read_capped

__all__ = ["MAX_SETTINGS_FILE", "Kind", "Table", "read_settings"]

MAX_SETTINGS_FILE = 1024 * 1024
"""Bytes."""
_WANTED = {
    list: "a list of strings",
    dict: "a table of strings",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
}


@dataclass(frozen=True, slots=True)
class Table:
    """
    A setting that is a table of its own.

    @ivar kinds: what may stand in it.
    @ivar several: there may be several, C{[[NAME]]}: its value is a list of them.
    @ivar required: what each must have.
    """

    kinds: Mapping[str, Kind]
    several: bool = False
    required: frozenset[str] = frozenset()


Kind = type | Table


def read_settings(file: Path, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """
    What the file says, by names with underscores; it may have dashes.

    @param kinds: by name: C{str}, C{bool}, C{int}, C{float}, C{list} for one of strings, C{dict} for a table
        of strings by any names, or a L{Table}.
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
    return _read(str(file), values, kinds)


def _read(where: str, values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    values = {name.replace("-", "_"): value for name, value in values.items()}
    for name in values:
        if name not in kinds:
            near = get_close_matches(name, kinds, 1)
            hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(kinds)}"
            raise ConfigurationError("bad-configuration", f"{where}: unknown key {name!r}{hint}")
    return {name: _value(f"{where}: {name}", value, kinds[name]) for name, value in values.items()}


def _value(where: str, value: Any, kind: Kind) -> Any:
    if isinstance(kind, Table):
        return _tables(where, value, kind)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or not all(isinstance(item, str) for item in items):
        raise ConfigurationError("bad-configuration", f"{where} must be {_WANTED[kind]}")
    return value


def _tables(where: str, value: Any, kind: Table) -> Any:
    name = where.rpartition(" ")[2]
    spelled = f"[[{name}]]" if kind.several else f"[{name}]"
    tables = value if kind.several else [value]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError("bad-configuration", f"{where} must be a table: {spelled}")
    found = [_read(where, table, kind.kinds) for table in tables]
    for table in found:
        missing = sorted(kind.required - table.keys())
        if missing:
            raise ConfigurationError("bad-configuration", f"{where}: {spelled} lacks {missing[0]}")
    return found if kind.several else found[0]
