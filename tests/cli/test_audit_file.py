# SPDX-License-Identifier: MIT
"""gmesh audit verify: an audit that lies there as a file, checked without the authority."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gmesh.authority.audit import chain_hash
from gmesh.trust.canonical import canonical
from gmesh.trust.documents import AuditHead
from gmesh.trust.floors import Floors


def written(path: Path, *targets: str) -> list[AuditHead]:
    """A file of so many rows; the head after each."""
    head, heads = bytes(32), []
    with path.open("w") as stream:
        for seq, target in enumerate(targets, 1):
            row = {"action": "invite", "target": target}
            head = chain_hash(seq, head, canonical(row))
            heads.append(AuditHead(epoch=0, size=seq, head=head.hex()))
            stream.write(
                json.dumps({"seq": seq, "hash": head.hex(), "row": row}, separators=(",", ":")) + "\n"
            )
    return heads


def floors_of(path: Path, *seen: AuditHead) -> Path:
    """The file of a node that saw these heads."""
    floors = Floors()
    for head in seen:
        floors.see_audit(head)
    path.write_text(json.dumps(floors.to_dict()))
    return path


def test_a_whole_file_is_good(run: Callable[..., Any], tmp_path: Path) -> None:
    """It says with what it was compared, and that it was with nothing."""
    file = tmp_path / "audit.jsonl"
    heads = written(file, "a", "b", "c")
    floors = floors_of(tmp_path / "floors.json", *heads[:2])
    ended = run("audit", "verify", file, "--floors", floors, "--json")
    assert (ended.status, json.loads(ended.out)) == (
        0,
        {
            "good": True,
            "epoch": 0,
            "size": 3,
            "head": heads[2].head,
            "compared": [str(floors)],
            "other_epoch": [],
        },
    )
    head = tmp_path / "audit-head.json"
    head.write_bytes(msgspec.json.encode(heads[2]))
    assert f"compared with {head}" in run("audit", "verify", file, "--floors", head).out
    assert "compared with nothing" in run("audit", "verify", file).out


def test_a14_a_file_that_was_rewritten_misses_a_head_that_a_node_kept(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    """The thief changed the second row and let the chain go on: the newest head alone would not tell."""
    file = tmp_path / "audit.jsonl"
    heads = written(file, "a", "b", "c", "d")
    forged = written(file, "a", "thief", "c", "d", "e")
    floors = floors_of(tmp_path / "floors.json", *heads, forged[-1])
    ended = run("audit", "verify", file, "--floors", floors)
    assert (ended.status, ended.err) == (
        1,
        f"gmesh: audit row 2 of {file} is another one than {floors} names\n",
    )


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("empty", "holds no row: an authority writes the first when it starts"),
        ("cut", "has 2 rows, but .* names 3: rows are gone"),
        ("edit", "audit row 2 of .* does not carry its hash"),
        ("floors", "is neither floors.json nor status.json nor audit-head.json"),
    ],
)
def test_what_is_wrong_is_one_line(run: Callable[..., Any], tmp_path: Path, harm: str, words: str) -> None:
    """A tail that was cut off, a row that was changed, a file that is something else."""
    file = tmp_path / "audit.jsonl"
    floors = floors_of(tmp_path / "floors.json", *written(file, "a", "b", "c"))
    if harm == "empty":
        file.write_text("")
        floors = floors_of(tmp_path / "floors.json")
    elif harm == "cut":
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    elif harm == "edit":
        file.write_text(file.read_text().replace('"b"', '"x"'))
    else:
        floors.write_text("[]")
    ended = run("audit", "verify", file, "--floors", floors)
    assert ended.status == 1
    assert len(ended.err.splitlines()) == 1
    assert re.search(words, ended.err), ended.err
