# SPDX-License-Identifier: MIT
"""
Who is at the other end of the local socket, as the kernel says, and what they may ask.

Root and the daemon's own user may do everything.  A C{read-group} may look at the node, a C{write-group}
may also send into the mesh and take messages out of it.  With neither, every process that the mode
of the socket lets in may do both.  Tests: C{tests/node/api/test_access.py}.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from twisted.logger import Logger

from gmesh.errors import ConfigurationError, RequestRefused

__all__ = [
    "AccessControl",
    "AnswerAccess",
    "StandingAccess",
    "Credentials",
    "Permission",
    "ServiceGroups",
    "find_group",
    "peer_credentials",
]

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59
"""From Linux's asm-generic/socket.h; the socket module does not name it."""
_GROUPS_BYTES = 1024
"""The most that C{socket.getsockopt} reads: 256 groups."""


class Permission(Enum):
    """What a request takes."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A process as it was when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]

    @property
    def process(self) -> str:
        """Which one, in numbers: names would have to be looked up."""
        return f"pid {self.pid} of uid {self.uid}"

    def __str__(self) -> str:
        try:
            return f"{pwd.getpwuid(self.uid).pw_name} (uid {self.uid})"
        except KeyError:
            return f"uid {self.uid}"


_connected: WeakKeyDictionary[Any, Credentials] = WeakKeyDictionary()
"""Who connected to each transport that was asked about: the kernel says the same as long as it is open."""


def peer_credentials(transport: Any) -> Credentials | None:
    """The process that connected to this transport, or None if that is no unix socket."""
    handle = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(handle, socket.socket):
        return None
    known = _connected.get(transport)
    if known is None:
        known = _credentials(handle)
        if known is not None:
            _connected[transport] = known
    return known


def _credentials(handle: socket.socket) -> Credentials | None:
    if handle.family != socket.AF_UNIX:
        return None
    try:
        pid, uid, gid = _UCRED.unpack(handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError:
        return None
    return Credentials(pid, uid, frozenset({gid, *_supplementary(handle, uid, gid)}))


def _supplementary(handle: socket.socket, uid: int, gid: int) -> list[int]:
    """The groups the process had; by the user database, where the kernel does not say."""
    try:
        raw = handle.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
        return [number for (number,) in struct.iter_unpack("=I", raw)]
    except OSError:
        pass
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return []


def find_group(name: str) -> int:
    """
    The number of a group of this host.

    @raise ConfigurationError: if there is none of this name.
    """
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigurationError("no-group", f"there is no group {name!r} on this host") from None


class StandingAccess:
    """
    What was admitted once and lasts: asked about again when the groups are others.

    Each is an object with a method C{forbidden}, which is called with the L{RequestRefused} and ends it; one
    that nobody else holds any more is over.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._checks: WeakKeyDictionary[Any, Callable[[], object]] = WeakKeyDictionary()

    def keep(self, lasting: Any, check: Callable[[], object]) -> None:
        """
        It lasts.

        @param check: raises L{RequestRefused} if it may not go on; holds no reference to it.
        """
        self._checks[lasting] = check

    def judge(self) -> None:
        """End what may not go on."""
        for lasting, check in list(self._checks.items()):
            try:
                check()
            except RequestRefused as error:
                del self._checks[lasting]
                self._log.info("what a program had begun is ended: {cause}", cause=error.detail)
                lasting.forbidden(error)


class AccessControl:
    """
    Judges each request by who asks.

    @param read: name of the group that may read; with none, see above.
    @param write: name of the group that may write, and read.
    @ivar admitted: streams, messages, gateways and answers of programs that were admitted.
    """

    def __init__(self, read: str = "", write: str = "") -> None:
        self.admitted = StandingAccess()
        self._names = {Permission.READ: read, Permission.WRITE: write}
        self._numbers = {access: find_group(name) for access, name in self._names.items() if name}

    @property
    def group(self) -> int | None:
        """The group that the socket must belong to, so that all who may ask get in."""
        return self._numbers.get(Permission.READ, self._numbers.get(Permission.WRITE))

    def become(self, other: AccessControl) -> None:
        """Judge by its groups from the next request on, also those of connections that are open."""
        self._names, self._numbers = other._names, other._numbers

    def admit(self, credentials: Credentials | None, access: Permission) -> None:
        """@raise RequestRefused: C{forbidden}, saying who lacks what."""
        if not self._numbers:
            return
        if credentials is None:
            raise RequestRefused("forbidden", "the caller must be known: use the unix socket")
        if credentials.uid in (0, os.geteuid()):
            return
        write = self._numbers.get(Permission.WRITE)
        if write is not None and write in credentials.groups:
            return
        if access is Permission.READ and self._numbers.get(Permission.READ, write) in credentials.groups:
            return
        raise RequestRefused(
            "forbidden", f"{credentials} may not {access.value} here: {self._needed(access)}"
        )

    def _needed(self, access: Permission) -> str:
        names = [self._names[Permission.WRITE]]
        if access is Permission.READ:
            names.insert(0, self._names[Permission.READ])
        given = list(dict.fromkeys(name for name in names if name))
        return (
            f"that takes the group {' or '.join(given)}"
            if given
            else "only root and the daemon's own user may"
        )


class ServiceGroups:
    """
    Which group may accept streams to which service, beside root and the daemon's own user.

    @param groups: names of groups, by service; C{*} stands for every service that is not named.
    @raise ConfigurationError: C{no-group}.
    """

    def __init__(self, groups: Mapping[str, str] | None = None) -> None:
        self._names = dict(groups or {})
        self._numbers = {service: find_group(name) for service, name in self._names.items()}

    def admit(self, credentials: Credentials | None, service: str) -> None:
        """@raise RequestRefused: C{forbidden}, saying who lacks what."""
        key = service if service in self._numbers else "*"
        number = self._numbers.get(key)
        if number is None:
            return
        if credentials is None:
            raise RequestRefused("forbidden", "the caller must be known: use the unix socket")
        if credentials.uid in (0, os.geteuid()) or number in credentials.groups:
            return
        raise RequestRefused(
            "forbidden",
            f"{credentials} may not accept {service}: that takes the group {self._names[key]} ([bind] {key})",
        )


class AnswerAccess:
    """
    Admits answers that go on, and asks again about each while it does.

    @param serves: raises L{RequestRefused} if a program of this user may not serve a service.
    """

    def __init__(
        self,
        access: AccessControl | None = None,
        serves: Callable[[str, Credentials | None], object] = lambda *_: None,
    ) -> None:
        self._access = access or AccessControl()
        self._serves = serves

    def reader(self, answer: Any, credentials: Credentials | None) -> None:
        """C{answer} tells about the node. @raise RequestRefused: if this user may not read that."""
        self._admit(answer, partial(self._access.admit, credentials, Permission.READ))

    def server(self, answer: Any, service: str, credentials: Credentials | None) -> None:
        """C{answer} has the messages of C{service}. @raise RequestRefused: if this user may not serve it."""
        self._admit(answer, partial(self._serves, service, credentials))

    def _admit(self, answer: Any, check: Callable[[], object]) -> None:
        check()
        self._access.admitted.keep(answer, check)
