# SPDX-License-Identifier: MIT
"""Files that survive a power cut, and key files only their owner may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gmesh.errors import ConfigurationError, StoreError
from gmesh.files import read_capped, read_key_file, write_atomic


def test_written_file_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """A second write replaces the content; no temporary file stays."""
    target = tmp_path / "floors.json"
    write_atomic(target, b"one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["floors.json"]


def test_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at fsync refuses with StoreError, and the old bytes are still there."""
    target = tmp_path / "crl.json"
    write_atomic(target, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["crl.json"]


def test_mode_is_exact_whatever_the_umask(tmp_path: Path) -> None:
    """A key is written 0600 even under a umask of 0."""
    before = os.umask(0)
    try:
        write_atomic(tmp_path / "identity.key", b"k", 0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "identity.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_files_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    """A command run as root writes files that the daemon's user owns."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 12346)
    write_atomic(state / "certificate.json", b"{}")
    status = (state / "certificate.json").stat()
    assert (status.st_uid, status.st_gid) == (12345, 12346)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_key_that_others_may_read_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    """Any group or other permission refuses the key and names chmod."""
    key = tmp_path / "identity.key"
    key.write_bytes(b"k")
    key.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 0600") as refused:
        read_key_file(key)
    assert refused.value.reason == "key-mode"


def test_systemd_credential_is_exempt_from_the_mode_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below $CREDENTIALS_DIRECTORY systemd sets the mode (0440)."""
    key = tmp_path / "authority"
    key.write_bytes(b"k")
    key.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_key_file(key) == b"k"


def test_missing_and_oversized_files_are_named(tmp_path: Path) -> None:
    """Each refusal names the file."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_capped(tmp_path / "none", 10)
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(ConfigurationError, match="larger than 10 bytes"):
        read_capped(tmp_path / "big", 10)
