# SPDX-License-Identifier: MIT
"""
Which proxies a daemon or a command uses: options, environment, and where the password stands.

Tests: C{tests/test_proxy_settings.py}.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gmesh.errors import ConfigurationError
from gmesh.files import read_key_file
from gmesh.wire.proxy import CREDENTIAL, Proxies, parse_credentials

__all__ = ["check_shown", "read_proxies"]


def read_proxies(option: str, credentials: str, environment: Mapping[str, str]) -> Proxies:
    """
    The proxies that these name.

    @param option: a URL, C{none}, or empty for what the environment says.
    @param credentials: a file with C{USER:PASSWORD}; if empty, the systemd credential of that name counts.
    @raise ConfigurationError: if one cannot be used.
    """
    directory = environment.get("CREDENTIALS_DIRECTORY")
    path = Path(credentials) if credentials else None
    if path is None and directory and (Path(directory) / CREDENTIAL).exists():
        path = Path(directory) / CREDENTIAL
    return Proxies(option, environment, None if path is None else _credentials_in(path))


def _credentials_in(path: Path) -> tuple[str, str]:
    try:
        text = read_key_file(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError("bad-credentials", f"{path} is not UTF-8 text") from error
    try:
        return parse_credentials(text.removesuffix("\n").removesuffix("\r"))
    except ConfigurationError as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error


def check_shown(option: str) -> None:
    """
    What stands on a command line is read by every user of the host.

    @raise ConfigurationError: if that has a password.
    """
    if "@" in option:
        raise ConfigurationError(
            "shown-password",
            "everybody on this host could read the password in --proxy: give it by --proxy-credentials FILE",
        )
