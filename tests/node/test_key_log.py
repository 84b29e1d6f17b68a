# SPDX-License-Identifier: MIT
"""The file of message keys: whole over a tear, private, not there before it is needed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gmesh.endtoend.message_keys import RECORD_SIZE, KeyRecord, KeyState, pack_records, unpack_records
from gmesh.errors import StoreError
from gmesh.node.key_log import FileKeyLog

ONE, TWO = (KeyRecord(KeyState.ACKNOWLEDGED, bytes(16), bytes([n]) * 16, n) for n in (1, 2))


def test_it_is_not_there_before_a_key_is(tmp_path: Path) -> None:
    """And reads as nothing."""
    assert FileKeyLog(tmp_path).read() == b""
    assert list(tmp_path.iterdir()) == []


def test_what_is_appended_is_read_by_the_next(tmp_path: Path) -> None:
    """By nobody but the daemon's user."""
    log = FileKeyLog(tmp_path)
    log.append(pack_records([ONE]))
    log.append(pack_records([TWO]))
    log.sync()
    assert unpack_records(FileKeyLog(tmp_path).read()) == [ONE, TWO]
    (file,) = tmp_path.iterdir()
    assert file.name == "message-keys.log" and stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_torn_record_is_written_over(tmp_path: Path) -> None:
    """So that what comes after a power cut can be read."""
    log = FileKeyLog(tmp_path)
    log.append(pack_records([ONE]) + b"torn")
    FileKeyLog(tmp_path).append(pack_records([TWO]))
    assert unpack_records(FileKeyLog(tmp_path).read()) == [ONE, TWO]


def test_it_is_written_anew(tmp_path: Path) -> None:
    """With what still counts, and goes on from there."""
    log = FileKeyLog(tmp_path)
    log.append(pack_records([ONE] * 5))
    log.replace(pack_records([ONE]))
    log.append(pack_records([TWO]))
    assert len(log.read()) == 2 * RECORD_SIZE


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """Each way to write says so; reading goes on with nothing."""
    log = FileKeyLog(tmp_path / "missing")
    for write in (lambda: log.append(b""), log.sync, lambda: log.replace(b"")):
        with pytest.raises(StoreError):
            write()
    (tmp_path / "message-keys.log").mkdir()
    assert FileKeyLog(tmp_path).read() == b""
