# SPDX-License-Identifier: MIT
"""
Man pages from the programs themselves: one a C{gmesh} command, and the options of both daemons.

C{python3 debian/man/make.py OUTPUT}; the three C{*.in} files hold what a program cannot say of itself.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
from twisted.python import usage

from gmesh import __version__
from gmesh.authority.tap import Options as AuthorityOptions
from gmesh.cli.main import COMMANDS, gmesh
from gmesh.node.tap import Options as NodeOptions

HERE = Path(__file__).parent
DATE = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
__all__ = ["main"]


def roff(text: str) -> str:
    """C{text} without meaning to roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def heading(name: str, section: int) -> str:
    """The first line of a page."""
    return f'.TH {roff(name.upper())} {section} "{DATE}" "gmesh {__version__}" "gmesh"\n'


def paragraphs(text: str) -> str:
    """Running text, one roff paragraph each."""
    return "".join(f".PP\n{roff(' '.join(part.split()))}\n" for part in text.split("\n\n"))


def entries(pairs: list[tuple[str, str]]) -> str:
    """A list of terms and what they mean."""
    return "".join(f".TP\n.B {roff(term)}\n{roff(' '.join(text.split()))}\n" for term, text in pairs)


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, groups included."""
    context = click.Context(group, info_name=path[-1])
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def command_page(path: tuple[str, ...], command: click.Command) -> str:
    """The page of one command."""
    parent = None
    for part in path[:-1]:
        parent = click.Context(click.Group(part), info_name=part, parent=parent)
    context = click.Context(command, info_name=path[-1], parent=parent, help_option_names=["-h", "--help"])
    help_text = command.help or ""
    synopsis = " ".join(command.collect_usage_pieces(context))
    options = [record for item in command.get_params(context) if (record := item.get_help_record(context))]
    page = heading("-".join(path), 1)
    page += f".SH NAME\n{roff('-'.join(path))} \\- {roff(command.get_short_help_str(200).rstrip('.'))}\n"
    page += f".SH SYNOPSIS\n.B {roff(' '.join(path))}\n{roff(synopsis)}\n"
    page += f".SH DESCRIPTION\n{paragraphs(help_text)}.SH OPTIONS\n{entries(options)}"
    if isinstance(command, click.Group):
        parts = [(name, sub.get_short_help_str(200)) for name in command.list_commands(context)
                 if (sub := command.get_command(context, name))]  # fmt: skip
        page += f".SH COMMANDS\n{entries(parts)}"
    return page + ".SH SEE ALSO\n.BR gmesh (1)\n"


def daemon_options(options: usage.Options) -> str:
    """What a daemon's own C{--help} says of its options."""
    lines = options.getUsage(width=10_000).partition("Options:\n")[2].partition("\n\n")[0]
    pairs = [re.split(r"  +", line.strip(), maxsplit=1) for line in lines.splitlines()]
    return entries([(option, text) for option, text in pairs])


def main(output: Path) -> None:
    """Write every page."""
    output.mkdir(parents=True, exist_ok=True)
    for path, command in commands(gmesh, ("gmesh",)):
        (output / f"{'-'.join(path)}.1").write_text(command_page(path, command))
    parts = {
        "gmesh.1": entries([(name, text) for name, (_, _, text) in COMMANDS.items()]),
        "gmesh-authority.8": daemon_options(AuthorityOptions()),
        "gmesh-node.8": daemon_options(NodeOptions()),
    }
    for name, generated in parts.items():
        stem, _, section = name.rpartition(".")
        template = (HERE / f"{name}.in").read_text().partition("\n")[2]
        (output / name).write_text(heading(stem, int(section)) + template.replace("@GENERATED@\n", generated))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
