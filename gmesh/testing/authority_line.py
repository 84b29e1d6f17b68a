# SPDX-License-Identifier: MIT
"""One node's way to an authority in memory, which a test may cut."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from gmesh.node.authority_http import Answer, AuthorityUnreachable, Headers, read_answer
from gmesh.testing.authority import MemoryAuthority

__all__ = ["AuthorityLine"]


class AuthorityLine:
    """
    One node's way to a L{MemoryAuthority}, in place of HTTP.

    @ivar open: whether this node reaches it.
    @ivar forward_only: whether only what others ask gets through.
    @ivar asked: every method and path, polls left out.
    """

    def __init__(self, authority: MemoryAuthority, clock: IReactorTime) -> None:
        self.open = True
        self.forward_only = False
        self.asked: list[str] = []
        self._authority = authority
        self._clock = clock

    def close(self) -> None:
        """Nothing is kept open."""

    def prefix(self) -> str:
        """None."""
        return ""

    async def ask(
        self, method: str, path: str, headers: Headers, data: bytes = b"", timeout: float = 30.0
    ) -> bytes:
        """@see: L{gmesh.node.authority_relay.AuthorityPath.ask}"""
        if path.startswith("/status?"):
            if path.endswith(self._authority.status.digest):
                await self._authority.news(self._clock)
            path = "/status"
        if self.forward_only:
            raise AuthorityUnreachable("unreachable", "nobody there")
        return read_answer(await self.forward(method, path, headers(path), data))

    async def forward(self, method: str, target: str, headers: dict[str, str], data: bytes) -> Answer:
        """@see: L{gmesh.node.authority_relay.Forwarder.forward}"""
        self.asked.append(f"{method} {target}")
        reached = self.open or self.forward_only
        if not reached or not self._authority.up:
            raise AuthorityUnreachable("unreachable", "nobody there")
        return self._authority.answer(method, target, headers, data)
