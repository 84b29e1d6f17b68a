# SPDX-License-Identifier: MIT
"""
Every bound of the trust layer, in one place.
"""

from __future__ import annotations

from typing import Final

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer every JSON reader keeps exactly (RFC 8785 section 3.2.2.3, RFC 7493 section 2.2)."""

MAX_TIME: Final = 253_402_300_799
"""The last second of the year 9999, the last that people can write (RFC 3339 section 5.6)."""

JSON_INTEGER_CHARACTERS: Final = 17
MAX_DEPTH: Final = 16
MAX_KEY_CHARACTERS: Final = 40

CERTIFICATE_LEEWAY: Final = 300
"""Seconds by which clocks may differ when validity is judged."""

DEFAULT_STALE_GRACE: Final = 7 * 86400
"""How long after the status expired the mesh goes on, while no policy says otherwise."""

EPOCH: Final = 2**40
"""Numbers are epoch * 2^40 + n: a jump of more than this skips a whole epoch."""

LAST_EPOCH: Final = MAX_INTEGER // EPOCH - 1
MAX_NUMBER: Final = (LAST_EPOCH + 1) * EPOCH - 1
"""The highest number that a document may have: a restore finds an epoch above it."""

MAX_CERTIFICATE_LIFE: Final = 30 * 86400
MAX_GRACE: Final = 366 * 86400
"""Seconds; a year of grace is for a machine that comes out of a store, more of it is a mistake."""

AUDIT_HEADS: Final = 15
"""Earlier heads of the audit that a node keeps: some days ago, some weeks ago, and so on."""

MAX_SIGNATURES: Final = 16

COMMANDS_AHEAD: Final = 64
"""By how much a command's number may lie above the one that the newest status names: so many come within
the second that a status may be old."""
MAX_ROOT_KEYS: Final = 16
MAX_AUTHORITY_KEYS: Final = 8
MAX_ADMISSION_KEYS: Final = 4
MAX_ANCHORS: Final = 64
MAX_URLS: Final = 8
MAX_ROLES: Final = 16
MAX_RULES: Final = 1024
MAX_SELECTORS: Final = 256
MAX_OPERATORS: Final = 256
MAX_TEXT: Final = 200
MAX_KNOWN_CERTIFICATES: Final = 8192
NONCE_SIZE: Final = 16
MAX_INVITE: Final = 8 * 1024
MAX_JOIN_REQUEST: Final = 4 * 1024

DOCUMENT_LIMITS: Final[dict[str, int]] = {
    "genesis": 16 * 1024,
    "certificate": 4 * 1024,
    "admission": 2 * 1024,
    "crl": 4 * 1024 * 1024,
    "crl-delta": 4 * 1024 * 1024,
    "policy": 256 * 1024,
    "status": 4 * 1024,
    "command": 16 * 1024,
    "receipt": 2 * 1024,
}
"""Bytes of the file form, per type: a genesis fits a handshake, a CRL one document transfer."""
