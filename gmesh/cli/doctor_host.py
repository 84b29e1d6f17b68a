# SPDX-License-Identifier: MIT
"""
Checks of the host: who owns the files of the state directory, and whether the disk takes more.

Tests: C{tests/cli/test_doctor.py}.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gmesh.cli.doctor_findings import Finding, fail, ok, warn
from gmesh.files import KEY_MODE

__all__ = ["disk", "permissions"]

KEYS = ("identity.key", "noise.key")
#: Bytes free below which a daemon soon cannot write, or may not be able to.
DISK_FAIL, DISK_WARN = 4 * 1024 * 1024, 64 * 1024 * 1024
INODES_FAIL = 16
MEBIBYTE = 1024 * 1024


def permissions(directory: Path) -> list[Finding]:
    """Keys for their owner alone, everything of one owner, writable for nobody else."""
    home = directory.stat()
    found = []
    if stat.S_IMODE(home.st_mode) & 0o022:
        found.append(_mode(directory, home, "others may change it", "go-w"))
    for path in sorted(directory.iterdir()):
        held = path.lstat()
        if not stat.S_ISREG(held.st_mode):
            continue
        mode = stat.S_IMODE(held.st_mode)
        if held.st_uid != home.st_uid:
            detail = f"{path} belongs to uid {held.st_uid}, its directory to uid {home.st_uid}"
            found.append(fail("permissions", detail, f"chown {home.st_uid}:{home.st_gid} {path}"))
        if path.name in KEYS and mode != KEY_MODE:
            found.append(_mode(path, held, "it must be 0600", "0600"))
        elif mode & 0o022:
            found.append(_mode(path, held, "others may change it", "go-w"))
        elif not mode & stat.S_IRUSR:
            found.append(_mode(path, held, "its owner cannot read it", "u+r"))
    return found or [
        ok("permissions", f"{directory} and its files: keys 0600, one owner (uid {home.st_uid})")
    ]


def _mode(path: Path, held: os.stat_result, why: str, change: str) -> Finding:
    detail = f"{path} has mode {stat.S_IMODE(held.st_mode):04o}: {why}"
    return fail("permissions", detail, f"chmod {change} {path}")


def disk(directory: Path) -> list[Finding]:
    """Room for the files that are replaced every minute."""
    system = os.statvfs(directory)
    free = system.f_bavail * system.f_frsize
    if system.f_flag & os.ST_RDONLY:
        return [fail("disk", f"{directory} is on a read-only file system", "remount it read-write")]
    if system.f_files and system.f_favail < INODES_FAIL:
        return [fail("disk", f"{directory} has no inodes left", "remove files of that file system")]
    detail = f"{free // MEBIBYTE} MiB free for {directory}"
    if free < DISK_FAIL:
        return [fail("disk", detail, "make room: numbers, receipts and renewed certificates are lost")]
    if free < DISK_WARN:
        return [warn("disk", detail, "make room before it is full")]
    return [ok("disk", detail)]
