# SPDX-License-Identifier: MIT
"""
Files that must survive a power cut, and key files that only their owner may read.

Used by the daemons and the command line; the pure layers never touch a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from gmesh.errors import ConfigurationError, StoreError

__all__ = ["KEY_MODE", "check_owner", "give_to_owner", "read_capped", "read_key_file", "told", "write_atomic"]

KEY_MODE = 0o600
MAX_KEY_FILE = 64 * 1024
#: Whose directory it is -> the files that tell.
OWNERS = {
    "a node": ("identity.key", "noise.key", "certificate.json"),
    "an authority": ("authority.key", "authority.sqlite", "operators.json"),
    "an operator": ("operator.key",),
    "the root": ("root.key",),
}


def check_owner(directory: Path, owner: str) -> None:
    """
    See to it that a directory belongs to one kind of owner: two would write over each other's files.

    @param owner: one of L{OWNERS}.
    @raise ConfigurationError: C{other-owner}, naming whose it is and the file that tells.
    """
    for other, names in OWNERS.items():
        found = next((name for name in names if other != owner and (directory / name).exists()), None)
        if found is not None:
            raise ConfigurationError(
                "other-owner",
                f"{directory} belongs to {other} (it holds {found}): name another directory for {owner}",
            )


def told(error: Exception) -> str:
    """One line for what keeps a daemon from its files: a refusal of ours, or one of the system's."""
    if isinstance(error, PermissionError):
        user = f"this process is uid {os.geteuid()}: start it as the user that owns the state directory"
        return f"{error.filename}: {error.strerror}; {user}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror or error}" if error.filename else str(error)
    return str(error)


def give_to_owner(path: Path) -> None:
    """Let a file that root made belong to the owner of its directory, whose daemon opens it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """
    Replace C{path} by C{data}: write beside it, fsync, rename, fsync the directory.

    The new file belongs to the owner of the directory, so that a command run as root leaves
    files its daemon can read.

    @raise StoreError: if the file cannot be written; the old content is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        owner = path.parent.stat()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), mode)
                if os.geteuid() == 0:
                    os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreError("unwritable", f"cannot write {path}: {error.strerror}") from error


def read_capped(
    path: Path, limit: int, check: Callable[[Path, os.stat_result], object] = lambda path, found: None
) -> bytes:
    """
    The content of C{path}, refusing more than C{limit} bytes before reading them.

    @param check: called with what was opened before it is read; it may refuse.
    @raise ConfigurationError: if it is missing, unreadable or too large.
    """
    try:
        with open(path, "rb") as stream:
            check(path, os.fstat(stream.fileno()))
            data = stream.read(limit + 1)
    except FileNotFoundError as error:
        raise ConfigurationError("missing-file", f"{path} does not exist") from error
    except OSError as error:
        raise ConfigurationError("unreadable-file", f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise ConfigurationError("too-large", f"{path} is larger than {limit} bytes")
    return data


def read_key_file(path: Path) -> bytes:
    """
    The content of a private key file.

    A file that others may read, or that belongs to somebody else, is refused, except below
    C{$CREDENTIALS_DIRECTORY}, where systemd sets both (systemd.exec(5), LoadCredential).

    @raise ConfigurationError: if it is missing, too open, somebody else's or too large.
    """
    return read_capped(path, MAX_KEY_FILE, _check_private)


def _check_private(path: Path, found: os.stat_result) -> None:
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and path.is_relative_to(credentials):
        return
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise ConfigurationError(
            "key-mode", f"{path} has mode {mode:04o}, others can read it: chmod 0600 {path}"
        )
    user = os.geteuid()
    if user and found.st_uid not in (0, user):
        raise ConfigurationError(
            "key-owner", f"{path} belongs to another user (uid {found.st_uid}): chown it to uid {user}"
        )
