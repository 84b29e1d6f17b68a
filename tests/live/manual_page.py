# SPDX-License-Identifier: MIT
"""A page of the manual whose commands are run, in their order, in a real shell beside real daemons."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^\.\. code-block:: console\n\n((?:   .*\n|\n)+)", re.MULTILINE)
SYSTEMCTL = re.compile(r"systemctl (start|stop|restart|reload) gmesh-(authority|node@(\w+))")
DEADLINE = 180.0


def commands(page: str) -> Iterator[str]:
    """The commands of a page of the manual: lines after C{$}, joined with those after C{>}."""
    for block in BLOCK.finditer((ROOT / f"docs/{page}.rst").read_text(encoding="utf-8")):
        command = ""
        for line in block[1].splitlines():
            text = line[3:]
            if text.startswith("$ "):
                if command:
                    yield command
                command = text[2:]
            elif text.startswith(">"):
                command += "\n" + text[2:]
            else:
                assert not text.strip(), f"neither command nor blank: {text}"
        if command:
            yield command


class Shell:
    """One bash that lives as long as the page, so that variables last."""

    def __init__(self, directory: Path) -> None:
        bin_directory = directory / "bin"
        bin_directory.mkdir()
        program = bin_directory / "gmesh"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m gmesh.cli.main "$@"\n')
        program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GMESH_")}
        phrase = directory / "phrase"
        phrase.touch(0o600)
        phrase.write_text("correct horse battery staple\n")
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=directory,
            env=kept
            | {
                "PATH": f"{bin_directory}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "GMESH_PASSPHRASE_FILE": str(phrase),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """Run one command, which must succeed without a traceback; its output."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho __status__ $?\n")
        self._process.stdin.flush()
        text = ""
        for line in self._process.stdout:
            if line.startswith("__status__ "):
                assert line == "__status__ 0\n" and "Traceback" not in text, f"$ {command}\n{text}"
                return text
            text += line
        pytest.fail(f"the shell ended in: {command}\n{text}")

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.read()
        self._process.stdout.close()
        self._process.wait(DEADLINE)


class Daemons:
    """What C{systemctl} stands for on the page."""

    def __init__(self, start: Callable[..., Any], directory: Path, authority: int, anchor: int) -> None:
        self._start, self._directory = start, directory
        self._authority, self._anchor = authority, anchor
        self._running: dict[str, Any] = {}

    def obey(self, verb: str, unit: str) -> None:
        """Do what the command would."""
        if verb in ("stop", "restart"):
            self._running.pop(unit).stop()
        if verb in ("start", "restart"):
            self._running[unit] = self._begin(unit)
        if verb == "reload":
            daemon = self._running[unit]
            seen = len(daemon.log.splitlines())
            daemon.signal(signal.SIGHUP)
            daemon.wait_for("reloaded: ", seen)

    def _begin(self, unit: str) -> Any:
        if unit == "authority":
            listen = f"tcp:{self._authority}:interface=127.0.0.1"
            daemon = self._start(
                "gmesh-authority", "--state", self._directory / "net/authority", "--listen", listen
            )
            daemon.wait_for("ready")
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._authority}/readyz", timeout=DEADLINE
            ) as answer:
                assert answer.status == 200
            return daemon
        name = unit.removeprefix("node@")
        options = ["--listen", f"tcp:{self._anchor}:interface=127.0.0.1"] if name == "b" else []
        daemon = self._start("gmesh-node", "--state", self._directory / name, *options)
        daemon.wait_for("ready|READY|local API")
        return daemon
