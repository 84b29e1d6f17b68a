# SPDX-License-Identifier: MIT
"""A log file in the hands of logrotate, or of SIGUSR1 alone: no line is lost, none is written twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gmesh.daemon.logfile import MAX_OLD_FILES, RotatedFile


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RotatedFile]:
    """A file in which one line stands."""
    made = RotatedFile.fromFullPath(str(tmp_path / "log"))
    made.write("one\n")
    yield made
    made.close()


def files(directory: Path) -> dict[str, str]:
    """What all files hold."""
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_d10_turned_over_by_itself(log: RotatedFile, tmp_path: Path) -> None:
    """Where nobody moved the file, it is moved away here, and older ones before it."""
    log.turn_over()
    log.write("two\n")
    log.turn_over()
    log.write("three\n")
    assert files(tmp_path) == {"log.2": "one\n", "log.1": "two\n", "log": "three\n"}


def test_so_many_old_files_are_kept_and_no_more(tmp_path: Path) -> None:
    """The oldest goes; what others keep beside them under large numbers, as dates, stays as it is."""
    (tmp_path / "log.20261130").write_text("theirs\n")
    log = RotatedFile("log", str(tmp_path), rotateLength=1)
    for number in range(MAX_OLD_FILES + 4):
        log.write(f"{number}\n")
    log.close()
    kept = files(tmp_path)
    assert kept.pop("log.20261130") == "theirs\n"
    assert kept.pop("log") == f"{MAX_OLD_FILES + 3}\n"
    assert sorted(kept) == sorted(f"log.{number}" for number in range(1, MAX_OLD_FILES + 1))
    assert kept[f"log.{MAX_OLD_FILES}"] == "3\n"


@pytest.mark.parametrize("create", [True, False])
def test_d10_moved_away_by_logrotate(log: RotatedFile, tmp_path: Path, create: bool) -> None:
    """With "create" and with "nocreate": the next line stands in the file of this name, with its mode."""
    (tmp_path / "log").chmod(0o640)
    os.rename(tmp_path / "log", tmp_path / "log.1")
    if create:
        (tmp_path / "log").touch(0o640)
    log.turn_over()
    log.write("two\n")
    assert files(tmp_path) == {"log.1": "one\n", "log": "two\n"}


def test_d10_copied_and_cut_by_logrotate(log: RotatedFile, tmp_path: Path) -> None:
    """With "copytruncate" there is no signal; the next line is at the start, with no hole before it."""
    shutil.copy(tmp_path / "log", tmp_path / "log.1")
    os.truncate(tmp_path / "log", 0)
    log.write("two\n")
    assert files(tmp_path) == {"log.1": "one\n", "log": "two\n"}


def test_d10_the_size_is_counted_anew_after_it_was_cut(tmp_path: Path) -> None:
    """A file that logrotate keeps small is not turned over here as well."""
    log = RotatedFile("log", str(tmp_path), rotateLength=8)
    for _ in range(3):
        log.write("seven.\n")
        os.truncate(tmp_path / "log", 0)
    log.write("seven.\n")
    log.close()
    assert files(tmp_path) == {"log": "seven.\n"}


def test_d10_a_directory_that_is_gone(log: RotatedFile, tmp_path: Path) -> None:
    """Nothing to go on in: the open file is kept, and lines go there."""
    (tmp_path / "away").mkdir()
    os.rename(tmp_path / "log", tmp_path / "away" / "log")
    (tmp_path / "log").mkdir()
    with pytest.raises(IsADirectoryError):
        log.turn_over()
    log.write("two\n")
    assert files(tmp_path / "away") == {"log": "one\ntwo\n"}
