# SPDX-License-Identifier: MIT
"""One process a state directory, by a lock that ends with its holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError

HOLD = "import sys; from pathlib import Path; from gmesh.daemon.lock import StateLock; "
HOLD += "lock = StateLock(Path(sys.argv[1]), 'unit'); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("name", [".", "authority.lock"])
def test_a_second_one_is_refused_until_the_first_is_released(tmp_path: Path, name: str) -> None:
    """The refusal names the directory, and the unit to stop."""
    first = StateLock(tmp_path / name, "gmesh-authority")
    with pytest.raises(
        ConfigurationError, match=f"works on {tmp_path}: .*systemctl stop gmesh-authority"
    ) as no:
        StateLock(tmp_path / name, "gmesh-authority")
    assert no.value.reason == "in-use"
    first.release()
    StateLock(tmp_path / name, "gmesh-authority").release()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone makes files of others")
def test_a_lock_that_root_makes_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    """Whose daemon opens it next."""
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)
    StateLock(tmp_path / "state/authority.lock", "unit").release()
    assert (tmp_path / "state/authority.lock").stat().st_uid == 65534


@pytest.mark.parametrize("name", [".", "authority.lock"])
def test_a_killed_holder_holds_no_longer(tmp_path: Path, name: str) -> None:
    """Whatever ends a process lets the next one in."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError):
            StateLock(tmp_path / name, "unit")
        holder.kill()
        holder.wait()
    StateLock(tmp_path / name, "unit").release()


def test_where_no_file_can_be_made(tmp_path: Path) -> None:
    """It is said which, and why."""
    with pytest.raises(ConfigurationError, match=r"cannot write .*gone/authority\.lock: No such file") as no:
        StateLock(tmp_path / "gone" / "authority.lock", "unit")
    assert no.value.reason == "read-only"
