# SPDX-License-Identifier: MIT
"""
What C{twistd gmesh-authority} understands: options and a TOML file with the same names, options first.

Tests: C{tests/authority/test_options.py}.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.python import usage

from gmesh import __version__
from gmesh.authority import limits
from gmesh.authority.database_url import find_url, make_engine
from gmesh.authority.proxies import parse_proxy
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.daemon.logs import LOG_FORMATS, Lines, observer_for
from gmesh.daemon.settings_file import read_settings
from gmesh.errors import ConfigurationError, GmeshError
from gmesh.files import told

__all__ = ["SETTINGS", "UNIT", "Options"]

UNIT = "gmesh-authority"
DEFAULT_LISTEN = "tcp:8440:interface=127.0.0.1"
RATES = {"rate": "address", "key-rate": "key", "failure-rate": "failures"}
"""Fields of L{RateLimits} by option."""
SETTINGS: dict[str, type] = {
    "state": str,
    "database": str,
    "database_file": str,
    "passphrase_file": str,
    "listen": list,
    "metrics": list,
    "host": list,
    "trusted_proxy": list,
    "rate": str,
    "key_rate": str,
    "failure_rate": str,
    "connections": int,
    "drain": int,
    "log_format": str,
}
"""What the configuration file may say."""


class Options(usage.Options):
    """The command line."""

    synopsis = "[options]"
    longdesc = (
        "Runs the Network Authority whose state was made by gmesh init. Endpoints are Twisted's:"
        " tcp:8440, ssl:8441:privateKey=K:certKey=C, unix:PATH. Every option that takes a value, but"
        " --config, may also stand in the configuration file, under the same name; options win."
    )
    optParameters: Sequence[Any] = [
        ["state", "s", None, "Directory with authority.key, genesis.json and the database."],
        [
            "database",
            None,
            None,
            "URL of a PostgreSQL database, without a password [default: a file in --state].",
        ],
        [
            "database-file",
            None,
            None,
            "Private file with that URL, password and all [default: the systemd credential database].",
        ],
        [
            "passphrase-file",
            None,
            None,
            "File (/dev/fd/N: open descriptor) with the pass phrase of sealed keys"
            " [default: the systemd credential passphrase, else asked at the terminal].",
        ],
        [
            "rate",
            None,
            None,
            f"Requests a minute (and at once) from one address. [default: {RateLimits().address}]",
            RequestRate.parse,
        ],
        [
            "key-rate",
            None,
            None,
            f"Signed requests a minute (and at once) by one key. [default: {RateLimits().key}]",
            RequestRate.parse,
        ],
        [
            "failure-rate",
            None,
            None,
            f"Failures a minute (and at once) by one address, or key. [default: {RateLimits().failures}]",
            RequestRate.parse,
        ],
        ["log-format", None, None, "Lines of the log: text or json. [default: twistd's text]"],
        ["config", "c", None, "Configuration file (TOML)."],
    ]
    optFlags: Sequence[Any] = [
        ["clock-is-right", None, "Start although the clock is more than a day above the newest time seen."],
        ["check", None, "Check options, configuration file and state directory, and exit."],
        ["weaken-approvals", None, "Take an approvals.json that asks for less than it did."],
    ]
    observer: Callable[[], Lines] | None = None
    """What makes the observer that twistd logs with, where its own does not suffice."""

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["metrics"] = []
        self["host"] = []
        self["trusted-proxies"] = []
        self["connections"] = None
        self["drain"] = None

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to serve on; may be given several times. [default: tcp:8440:interface=127.0.0.1]"""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_metrics(self, endpoint: str) -> None:
        """Endpoint to serve /metrics on, and nothing else; may be given several times."""
        self["metrics"].append(endpoint)

    def opt_host(self, name: str) -> None:
        """Name for --metrics over TCP, beside this host's own; may be given several times."""
        self["host"].append(name)

    def opt_trusted_proxy(self, address: str) -> None:
        """Address, network or unix (socket) whose X-Forwarded-For is believed; may be given several times."""
        try:
            self["trusted-proxies"].append(parse_proxy(address))
        except ValueError as error:
            raise usage.UsageError(f"--trusted-proxy {address}: {error}") from None

    def opt_connections(self, count: str) -> None:
        """Connections one address may hold, 0 for any number. [default: 64]"""
        if not (count.isascii() and count.isdigit()):
            raise usage.UsageError("--connections must be a whole number")
        self["connections"] = int(count)

    def opt_drain(self, seconds: str) -> None:
        """Seconds after SIGTERM in which it is not ready, but serves. [default: 0]"""
        if not (seconds.isascii() and seconds.isdigit()) or int(seconds) > limits.DRAIN_SECONDS_MAX:
            raise usage.UsageError(
                f"--drain must be a whole number of seconds, at most {limits.DRAIN_SECONDS_MAX}"
            )
        self["drain"] = int(seconds)

    def opt_version(self) -> None:
        """Print the version of gmesh and exit."""
        print(f"gmesh {__version__}")  # noqa: T201  # what --version is for
        raise SystemExit(0)

    def postOptions(self) -> None:
        """@raise SystemExit: with one line, when the file or the directory is wrong, and after C{--check}."""
        try:
            self.settings = self.reread()
            for name, value in self.settings.items():
                self._set(name, value)
        except GmeshError as error:
            raise SystemExit(f"{UNIT}: {told(error)}") from error
        if not self["state"]:
            raise usage.UsageError("--state DIR is needed: the directory that gmesh init made")
        if self["log-format"] not in (None, *LOG_FORMATS):
            raise usage.UsageError(
                f"{self['log-format']!r} is not a log format: there are {', '.join(LOG_FORMATS)}"
            )
        self.observer = observer_for(self.parent, self["log-format"] or "")
        if not self["listen"]:
            self["listen"].append(DEFAULT_LISTEN)
        for name, field in RATES.items():
            self[name] = self[name] or getattr(RateLimits(), field)
        if self["connections"] is None:
            self["connections"] = limits.CONNECTIONS_PER_ADDRESS
        self["drain"] = self["drain"] or 0
        if self["check"]:
            self._check()

    def reread(self) -> dict[str, Any]:
        """
        What the configuration file says now, if there is one.

        @raise ConfigurationError: naming what is wrong.
        """
        return read_settings(Path(self["config"]), SETTINGS) if self["config"] else {}

    def engine(self) -> Any:
        """
        The engine of the database that is named; None for a file in the state directory.

        @raise ConfigurationError: as of L{find_url} and L{make_engine}.
        """
        url = find_url(self["database"], self["database-file"])
        return None if url is None else make_engine(url)

    def _set(self, name: str, value: Any) -> None:
        """Take a setting of the file, unless an option says it. @raise ConfigurationError: if it is wrong."""
        option = name.replace("_", "-")
        try:
            if option == "trusted-proxy":
                for address in () if self["trusted-proxies"] else value:
                    self.opt_trusted_proxy(address)
            elif option in ("connections", "drain"):
                if self[option] is None:
                    getattr(self, f"opt_{option}")(str(value))
            elif not self[option]:
                self[option] = RequestRate.parse(value) if option in RATES else value
        except (usage.UsageError, ValueError) as error:
            raise ConfigurationError("bad-configuration", f"{self['config']}: {name}: {error}") from error

    def _check(self) -> None:
        """@raise SystemExit: with the first thing that would keep the daemon from starting, or with 0."""
        from gmesh.authority.server import read_possible_rules
        from gmesh.authority.state import StateDirectory
        from gmesh.daemon.listen import parse_server
        from gmesh.keyfiles import Passphrases

        state = Path(self["state"])
        try:
            for endpoint in (*self["listen"], *self["metrics"]):
                parse_server(None, endpoint)
            phrase = self["passphrase-file"]
            self.engine()
            directory = StateDirectory(state, int(time.time()), Passphrases(Path(phrase) if phrase else None))
            read_possible_rules(state)
            if not directory.engine.shared and not directory.database.exists():
                directory.first_operators()
        except (GmeshError, OSError) as error:
            raise SystemExit(f"{UNIT}: {told(error)}") from error
        network = directory.chain[-1].body.network
        print(f"{UNIT}: {state} and its configuration are good: the authority of {network} may start")  # noqa: T201  # what --check is for
        raise SystemExit(0)
