# SPDX-License-Identifier: MIT
"""
Requests to the authority as JSON, the way an anchor is asked to pass them on, and its answers.

Tests: C{tests/node/test_authority_relay.py}, C{tests/node/test_join_relay.py}.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NamedTuple

from gmesh.errors import RequestRefused

__all__ = ["Question", "decode_answer", "encode_answer", "encode_question", "read_question"]

_HEADERS = ("Accept", "Content-Type", "Content-Digest", "Gmesh-Audience", "Signature-Input", "Signature")
_KEYID = re.compile(r';keyid="([0-9a-f]{32})"')


_LONGEST_IDENTIFIER = 64
"""Characters: it comes back with the answer, which has to fit a frame."""


class Question(NamedTuple):
    """
    One of them.

    @ivar identifier: chosen by who asks; the answer repeats it.
    @ivar target: path and query.
    """

    identifier: str
    method: str
    target: str
    headers: dict[str, str]
    data: bytes

    @property
    def request(self) -> str:
        """Method and target."""
        return f"{self.method} {self.target}"

    @property
    def signers(self) -> list[str]:
        """The key ids that its signatures name."""
        return _KEYID.findall(self.headers.get("Signature-Input", ""))


def read_question(value: dict[str, Any], allowed: re.Pattern[str], limit: int) -> Question:
    """
    The question that JSON holds.

    @param allowed: what methods and targets, C{POST /renew} for example, are passed on.
    @param limit: bytes of its body.
    @raise RequestRefused: for anything else.
    """
    identifier, method, target = value.get("ask"), value.get("method"), value.get("target")
    listed, data = value.get("headers"), _bytes(value.get("body"))
    if not isinstance(identifier, str) or not isinstance(method, str) or not isinstance(target, str):
        raise RequestRefused("invalid-field", "no request")
    if not _plain(identifier) or len(identifier) > _LONGEST_IDENTIFIER:
        raise RequestRefused("invalid-field", "no request")
    if not isinstance(listed, list):
        raise RequestRefused("invalid-field", "a request has a list of headers")
    if allowed.fullmatch(f"{method} {target}") is None:
        raise RequestRefused("not-allowed", "only what a node asks is passed on")
    if data is None or len(data) > limit:
        raise RequestRefused("too-large", "no body, or one too large")
    for pair in listed:
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] not in _HEADERS or not _plain(pair[1]):
            raise RequestRefused("invalid-field", "only the headers of a signed request are passed on")
    return Question(identifier, method, target, dict(listed), data)


def encode_question(identifier: str, method: str, target: str, headers: dict[str, str], data: bytes) -> bytes:
    """What L{read_question} reads."""
    question = {
        "ask": identifier,
        "method": method,
        "target": target,
        "headers": [[name, text] for name, text in headers.items()],
        "body": base64.b64encode(data).decode("ascii"),
    }
    return _encode(question)


def encode_answer(identifier: str, answer: tuple[int, bytes] | None) -> bytes:
    """
    An answer to that question.

    @param answer: HTTP status and body; None where the authority is not reached, or its answer does not fit.
    """
    reply: dict[str, Any] = {"answer": identifier}
    if answer is not None:
        reply |= {"code": answer[0], "body": base64.b64encode(answer[1]).decode("ascii")}
    return _encode(reply)


def decode_answer(value: dict[str, Any]) -> tuple[int, bytes] | None:
    """HTTP status and body of what L{encode_answer} wrote; None where it has none."""
    code, body = value.get("code"), _bytes(value.get("body"))
    return (code, body) if type(code) is int and body is not None else None


def _bytes(text: Any) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        return None


def _plain(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable()


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8")
