# SPDX-License-Identifier: MIT
"""
Notices when something secret is written where it does not belong: keys, invites, pass phrases, payloads.

While it watches, every secret that this process makes or loads is known to it; it finds each again in
any text, plain, escaped, as hex or as base64 of any alphabet and alignment, also one within the other.
Tests: C{tests/testing/test_secrecy.py}, and the whole suite, whose log it reads.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from twisted.logger import LogEvent, eventAsText

from gmesh.endtoend.datagram_sender import DatagramSender
from gmesh.endtoend.datagrams import Datagrams
from gmesh.keyfiles import Passphrases
from gmesh.trust.invite import Invite
from gmesh.trust.keys import NoiseKey, SigningKey

__all__ = ["SecretWatch"]

WINDOW = 32
"""Bytes of a key, and of a payload's beginning, that are looked for."""
LEAST_DISTINCT = 10
"""Different bytes without which something is no secret: a run of zeros is found everywhere."""
LEAST_PHRASE = 8
DEPTH = 3
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{43,}")
_HEX = re.compile(rb"[0-9a-fA-F]{64,}")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([ntr\\'\"]))")
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


class SecretWatch:
    """
    Knows secrets, and is a log observer that reports each event that gives one away.

    @ivar told: what was given away, a line each; its reader empties it.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self._secrets: set[bytes] = set()
        self._phrases: set[bytes] = set()
        self._undo: list[Callable[[], None]] = []

    # what is secret

    def add(self, secret: bytes) -> None:
        """Know a key, or how a payload begins."""
        start = bytes(secret[:WINDOW])
        if len(start) == WINDOW and len(set(start)) >= LEAST_DISTINCT:
            self._secrets.add(start)

    def add_phrase(self, phrase: bytes) -> None:
        """Know something of another length."""
        if len(phrase) >= LEAST_PHRASE:
            self._phrases.add(bytes(phrase))

    def start(self) -> None:
        """Know whatever is made or loaded from now on."""
        self._after(SigningKey, "__init__", lambda key: self.add(key.seed))
        self._after(NoiseKey, "__init__", lambda key: self.add(key.private))
        self._after(Invite, "__init__", lambda invite: self.add(invite.seed))
        self._result(Passphrases, "existing", self.add_phrase)
        self._result(Passphrases, "new", self.add_phrase)
        self._argument(Datagrams, "send", 2)
        self._argument(Datagrams, "post", 2)
        self._argument(DatagramSender, "send", 0)

    def stop(self) -> None:
        """Leave everything as it was."""
        while self._undo:
            self._undo.pop()()

    def _after(self, owner: type, name: str, look: Callable[[Any], None]) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def replaced(it: Any, *arguments: Any, **named: Any) -> None:
            original(it, *arguments, **named)
            look(it)

        self._replace(owner, name, replaced)

    def _result(self, owner: type, name: str, look: Callable[[bytes], None]) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def replaced(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            look(result)
            return result

        self._replace(owner, name, replaced)

    def _argument(self, owner: type, name: str, place: int) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def replaced(it: Any, *arguments: Any, **named: Any) -> Any:
            self.add(arguments[place] if len(arguments) > place else named["data"])
            return original(it, *arguments, **named)

        self._replace(owner, name, replaced)

    def _replace(self, owner: type, name: str, value: Any) -> None:
        original = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, original))

    # where it must not be

    def __call__(self, event: LogEvent) -> None:
        """Look at an event: its text, its traceback, and what else came with it as text."""
        parts = [eventAsText(event, includeTimestamp=False)]
        parts += [str(value) for value in event.values() if isinstance(value, str | bytes)]
        if any(self.finds(part) for part in parts):
            place = f"{event.get('log_namespace')}: {event.get('log_format')!r}"
            self.told.append(f"a secret was logged by {place[:200]}")

    def finds(self, text: str | bytes) -> bool:
        """Whether something secret stands in this, in whatever spelling."""
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        return self._finds(data, DEPTH)

    def _finds(self, data: bytes, depth: int) -> bool:
        secrets = self._secrets
        if any(data[at : at + WINDOW] in secrets for at in range(len(data) - WINDOW + 1)):
            return True
        if any(phrase in data for phrase in self._phrases):
            return True
        return depth > 0 and any(self._finds(inner, depth - 1) for inner in _spellings(data))


def _spellings(data: bytes) -> Iterator[bytes]:
    """What parts of this may stand for."""
    for run in _HEX.findall(data):
        for shift in (0, 1):
            digits = run[shift:]
            yield bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    for run in _BASE64.findall(data):
        for shift in range(4):
            letters = run[shift:].translate(bytes.maketrans(b"-_", b"+/"))
            letters = letters[:-1] if len(letters) % 4 == 1 else letters
            yield base64.b64decode(letters + b"=" * (-len(letters) % 4))
    if not data.isascii():
        yield data.decode("utf-8", "replace").encode("latin-1", "replace")
    if b"\\" in data:
        yield _ESCAPE.sub(_unescaped, data)


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode("ascii"))
    return _ESCAPED.get(match[2], match[2])
