# SPDX-License-Identifier: MIT
"""
Whether every command and every option has its place in an installed man page: C{manpages.py [DIRECTORY]}.

It asks the programs themselves, not what made the pages. What is missing ends it with status 1.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from twisted.python import usage

from gmesh.authority.options import Options as AuthorityOptions
from gmesh.cli.main import gmesh
from gmesh.node.tap import Options as NodeOptions


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Every command below C{command}, itself included: its page, and what the page must name."""
    context = click.Context(command, info_name=path[-1])
    options = [max(item.opts, key=len) for item in command.params if isinstance(item, click.Option)]
    below = command.list_commands(context) if isinstance(command, click.Group) else []
    yield f"man1/{'-'.join(path)}.1.gz", [option for option in options if option != "--version"] + below
    for name in below:
        found = command.get_command(context, name) if isinstance(command, click.Group) else None
        if found is not None:
            yield from commands(found, (*path, name))


def daemon(options: usage.Options) -> list[str]:
    """The options of a daemon, as its page must name them."""
    return [f"--{option.rstrip('=')}" for option in options.longOpt]


def main(directory: Path) -> str:
    """What is missing or superfluous, a line each."""
    wanted = dict(commands(gmesh, ("gmesh",)))
    missing = []
    wanted["man8/gmesh-authority.8.gz"] = daemon(AuthorityOptions())
    wanted["man8/gmesh-node.8.gz"] = daemon(NodeOptions())
    for page, words in wanted.items():
        try:
            text = gzip.decompress((directory / page).read_bytes()).decode()
        except FileNotFoundError:
            missing.append(page)
            continue
        terms = " ".join(re.findall(r"^\.B (.*)", text.replace("\\-", "-"), re.MULTILINE))
        missing += [f"{page}: {word}" for word in words if word not in re.split(r"[ ,=]+", terms)]
    there = {path.relative_to(directory).as_posix() for path in directory.glob("man[18]/gmesh*.gz")}
    missing += [f"{page}: no such command" for page in sorted(there - set(wanted))]
    return "\n".join(missing)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else "/usr/share/man")) or None)
