# SPDX-License-Identifier: MIT
"""What the README and the documentation tell people to type is understood by the command."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

from gmesh.cli.main import COMMANDS, gmesh

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
OPERATORS = {"|", "||", "&&", ">", ">>", "<"}
LINE = re.compile(r"^ {2,}(?:\$ )?gmesh (?P<words>[a-z].*?)(?: {2,}#.*| {2,}\(.*| &)?$", re.MULTILINE)


REFERENCE = ROOT / "docs/command-line.rst"


def _commands() -> Iterator[str]:
    for page in PAGES:
        for match in LINE.finditer(page.read_text(encoding="utf-8")):
            yield match["words"]


def test_there_are_commands() -> None:
    """The pages show commands, or the next test would say nothing."""
    assert len(list(_commands())) >= 10


@pytest.mark.parametrize("line", sorted(set(_commands())))
def test_documented_command_is_understood(line: str) -> None:
    """Each documented command line parses: its command, options and arguments exist."""
    words = list(takewhile(lambda word: word not in OPERATORS, shlex.split(line, comments=True)))
    command: click.Command = gmesh
    while isinstance(command, click.Group):
        context = command.make_context(command.name or "gmesh", words, resilient_parsing=False)
        first = getattr(context, "_protected_args", None)  # click 8.2; without the underscore before
        words = [*(context.protected_args if first is None else first), *context.args]
        if not words and command.invoke_without_command:
            return
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(command.name or "", words)


def test_b14_the_tutorial_begins_in_the_shell_that_ran_the_demo(tmp_path: Path) -> None:
    """What it has people type first finds C{gmesh} where C{make demo} has put it, and makes the network."""
    page = (ROOT / "docs/tutorial.rst").read_text(encoding="utf-8")
    blocks = re.findall(r"::\n\n((?: {4}.+\n)+)", page.partition("2. The authority")[0])
    first = [line.strip() for line in "".join(blocks).splitlines()]
    assert [line.split()[0] for line in first] == [".", "mkdir", "gmesh"]
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f'PATH="{tmp_path}/.venv/bin:$PATH"\n')
    command = tmp_path / ".venv/bin/gmesh"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m gmesh.cli.main "$@"\n')
    command.chmod(0o755)
    ended = subprocess.run(
        ["sh", "-ec", "\n".join(first)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "lab/net/authority").is_dir()


def test_the_reference_names_every_command() -> None:
    """docs/command-line.rst has every command, and nothing that is none, in its first table."""
    table = REFERENCE.read_text(encoding="utf-8").partition("What there is")[2].partition("Exit status")[0]
    named = {words.split()[0] for words in re.findall(r"``([a-z][^`]*)``", table.partition("Those from")[0])}
    groups = {"key", "genesis", "database", "admin"}
    below = {
        name
        for group in ("key", "genesis", "database")
        for name in _group(group).list_commands(click.Context(gmesh))
    }
    assert set(COMMANDS) <= named
    assert named - set(COMMANDS) - groups - below == {"gmesh"}


def _group(name: str) -> click.Group:
    found = gmesh.get_command(click.Context(gmesh), name)
    assert isinstance(found, click.Group)
    return found


def test_the_reference_names_every_check() -> None:
    """Its table of the doctor has a row for each check that the doctor makes."""
    table = REFERENCE.read_text(encoding="utf-8").partition("The doctor\n")[2]
    rows = set(re.findall(r"^([a-z]+) {2,}[a-z]", table, re.MULTILINE)) - {"check"}
    made = set()
    for module in ("doctor", "doctor_documents", "doctor_host", "doctor_reach"):
        source = (ROOT / f"gmesh/cli/{module}.py").read_text(encoding="utf-8")
        made |= set(re.findall(r"\b(?:ok|warn|fail|Finding)\(\s*\"([a-z]+)\"", source))
    assert rows == made


def test_a27_no_message_has_people_type_an_invite_as_an_argument() -> None:
    """What code and pages tell to type is C{gmesh join -}, which no list of processes shows."""
    texts = [*ROOT.glob("gmesh/**/*.py"), *ROOT.glob("docs/**/*.rst"), ROOT / "README.rst"]
    assert not [file for file in texts if "gmesh join INVITE" in file.read_text(encoding="utf-8")]
