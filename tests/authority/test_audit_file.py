# SPDX-License-Identifier: MIT
"""An audit as a file counts as far as it passes through heads that others hold."""

from __future__ import annotations

import errno
import json
import os
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from authority.network import Network

from gmesh.authority import audit
from gmesh.authority.audit import chain_hash
from gmesh.authority.audit_file import HeldHead, audit_rows, survey
from gmesh.errors import StoreError
from gmesh.trust.canonical import canonical
from gmesh.trust.documents import Status, parse_document


def chain(path: Path, *rows: dict[str, object]) -> list[str]:
    """A file of these rows, its hashes right; the head after each."""
    head, heads = bytes(32), []
    with path.open("wb") as stream:
        for seq, row in enumerate(rows, 1):
            entry = canonical(row)
            head = chain_hash(seq, head, entry)
            heads.append(head.hex())
            stream.write(b'{"seq":%d,"hash":"%s","row":%s}\n' % (seq, head.hex().encode(), entry))
    return heads


def plain(count: int) -> list[dict[str, object]]:
    return [{"action": "invite", "target": f"n-{number}"} for number in range(count)]


def test_the_mirror_of_a_daemon_is_such_a_file(network: Network) -> None:
    """Every row follows from the one before, and it passes through the head that the status names."""
    network.joined("pump-1")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    network.clock.advance(2)
    head = parse_document(network.ask("GET", "/status").body, Status).body.audit
    held = HeldHead("a node", head.epoch, head.size, head.head)
    found = survey(network.path / "audit.jsonl", [held])
    listed = network.admin("GET", "/admin/audit").json
    assert (found.size, found.head, found.broken) == (listed["size"], listed["head"], "")
    assert (found.met, found.verified, found.forked, found.beyond) == ([held], head.size, [], [])


def nine(path: Path) -> list[tuple[int, bytes, bytes]]:
    """A file of so many rows, and what a mirror is given of each."""
    chain(path, *plain(9))
    return [(row.seq, row.entry, row.digest) for row in audit_rows(path)]


class FillingDisk(FileIO):
    """Takes a few bytes more, then none."""

    left = 50

    def write(self, data: Any) -> int:
        if not FillingDisk.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: FillingDisk.left]
        FillingDisk.left -= len(part)
        return super().write(part)


def test_a_row_that_a_full_disk_takes_half_of_is_whole_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is there meanwhile, and all that follow from it stay behind it."""
    entries = nine(tmp_path / "whole")
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    file = tmp_path / "audit.jsonl"
    mirror = audit.AuditMirror(file)
    mirror.append(entries[:4])
    with monkeypatch.context() as full:
        opener = {"opener": lambda path, flags: os.open(path, flags, 0o600)}
        full.setattr(
            audit, "open", lambda path, mode, **more: FillingDisk(path, mode, **opener), raising=False
        )
        mirror.append(entries[4:5])
        mirror.append(entries[5:6])
    assert (file.read_bytes(), mirror.failures) == (b"".join(lines[:4]), 2)
    mirror.append(entries[6:])
    assert file.read_bytes() == b"".join(lines)


class FailingDisk(FillingDisk):
    """Takes back nothing either."""

    def truncate(self, size: int | None = None) -> int:
        raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("taken", [0, 50])
def test_no_row_follows_on_half_a_row_that_could_not_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Of three rows at once the first is there, and no or some bytes of the second: it goes on from there."""
    entries = nine(tmp_path / "whole")
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    file = tmp_path / "audit.jsonl"
    mirror = audit.AuditMirror(file)
    mirror.append(entries[:4])
    torn = b"".join(lines[:5]) + lines[5][:taken]
    with monkeypatch.context() as failing:
        failing.setattr(FillingDisk, "left", len(lines[4]) + taken)
        opener = {"opener": lambda path, flags: os.open(path, flags, 0o600)}
        failing.setattr(
            audit, "open", lambda path, mode, **more: FailingDisk(path, mode, **opener), raising=False
        )
        mirror.append(entries[4:7])
        failing.setattr(FillingDisk, "left", 9999)
        if taken:
            mirror.append(entries[7:8])
            with pytest.raises(StoreError, match="Read-only"):
                mirror.write(entries[8:])
    assert (file.read_bytes(), mirror.failures) == (torn, 2 if taken else 1)
    mirror.append(entries[8 if taken else 7 :])
    assert file.read_bytes() == b"".join(lines)


def test_rows_beyond_what_is_kept_are_left_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file ends early, and has no gap."""
    monkeypatch.setattr(audit, "_PENDING_MAX", 3)
    entries = nine(tmp_path / "whole")
    mirror = audit.AuditMirror(tmp_path / "away" / "audit.jsonl")
    for entry in entries[:6]:
        mirror.append([entry])
    (tmp_path / "away").mkdir()
    mirror.append(entries[6:])
    assert mirror.last() == 3
    assert mirror.failures == 7


def test_rows_left_to_the_next_start_stay_so_when_the_file_is_away_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited was written meanwhile: rows that come later would follow on a gap."""
    monkeypatch.setattr(audit, "_PENDING_MAX", 3)
    entries = nine(tmp_path / "whole")
    away, here = tmp_path / "away", tmp_path / "here"
    mirror = audit.AuditMirror(here / "audit.jsonl")
    for entry in entries[:4]:
        mirror.append([entry])
    here.mkdir()
    mirror.append(entries[4:5])
    here.rename(away)
    mirror.append(entries[5:6])
    away.rename(here)
    mirror.append(entries[6:])
    assert mirror.last() == 3


def test_as_many_rows_at_once_as_are_kept_are_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes them."""
    monkeypatch.setattr(audit, "_PENDING_MAX", 3)
    entries = nine(tmp_path / "whole")
    mirror = audit.AuditMirror(tmp_path / "audit.jsonl")
    mirror.append(entries[:5])
    mirror.append(entries[5:])
    assert (mirror.last(), mirror.failures) == (9, 0)


def test_a14_a_file_that_was_rewritten_and_went_on_misses_an_earlier_head(tmp_path: Path) -> None:
    """Its newest rows may be anything; what somebody saw before is not there."""
    true = chain(tmp_path / "true", *plain(9))
    chain(tmp_path / "forged", {"action": "invite", "target": "thief"}, *plain(12))
    heads = [HeldHead("a", 0, 4, true[3]), HeldHead("b", 0, 9, true[8])]
    assert survey(tmp_path / "true", heads).met == heads
    assert survey(tmp_path / "forged", heads).forked == heads
    chain(tmp_path / "cut", *plain(6))
    cut = survey(tmp_path / "cut", heads)
    assert (cut.met, cut.verified, cut.beyond) == (heads[:1], 4, heads[1:])


def test_heads_of_rows_that_a_restore_took_back_are_not_compared(tmp_path: Path) -> None:
    """A backup of six rows was restored, to epoch 700: heads of the old epoch count up to there."""
    old = chain(tmp_path / "old", *plain(9))
    new = chain(tmp_path / "new", *plain(6), {"action": "restore", "target": "700"}, *plain(5))
    heads = [HeldHead("a", 0, 4, old[3]), HeldHead("b", 0, 9, old[8]), HeldHead("c", 0, 99, old[8])]
    heads += [HeldHead("d", 700, 8, new[7]), HeldHead("e", 700, 99, new[7])]
    found = survey(tmp_path / "new", heads)
    assert (found.epoch, found.met, found.forked) == (700, [heads[0], heads[3]], [])
    assert (found.other_epoch, found.beyond) == ([heads[1], heads[2]], [heads[4]])


@pytest.mark.parametrize("harm", ["edit", "drop", "swap", "noise", "long", "deep"])
def test_a_file_ends_where_it_is_broken(tmp_path: Path, harm: str) -> None:
    """Rows before the damage count, none after it."""
    path = tmp_path / "audit.jsonl"
    heads = chain(path, *plain(5))
    lines = path.read_bytes().splitlines(keepends=True)
    if harm == "edit":
        lines[2] = lines[2].replace(b"n-2", b"n-7")
    elif harm == "drop":
        del lines[2]
    elif harm == "swap":
        lines[2], lines[3] = lines[3], lines[2]
    elif harm == "noise":
        lines[2] = b"\xff\n"
    elif harm == "deep":
        lines[2] = b'{"seq":3,"hash":"00","row":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    else:
        lines[2] = b'{"seq":3,"hash":"00","row":"' + b"x" * 300_000 + b'"}\n'
    path.write_bytes(b"".join(lines))
    found = survey(path, [HeldHead("a", 0, 2, heads[1]), HeldHead("b", 0, 5, heads[4])])
    assert (found.size, found.verified, len(found.beyond)) == (2, 2, 1)
    assert found.broken


def test_what_is_no_row_is_named(tmp_path: Path) -> None:
    """By its line and file."""
    path = tmp_path / "audit.jsonl"
    path.write_text(json.dumps({"seq": 1}) + "\n")
    with pytest.raises(StoreError, match=f"line 1 of {path} is not an audit row"):
        list(audit_rows(path))
