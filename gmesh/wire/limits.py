# SPDX-License-Identifier: MIT
"""
Every length, count and number that bounds bytes on a link.

Those that describe a format are part of it and never change; policy may lower the others.
"""

from __future__ import annotations

TAG = 16
"""Bytes that AESGCM and ChaChaPoly add to what they seal (Noise, section 12)."""

MAX_RECORD = 65_535
"""A Noise message (revision 34, section 3), and so the largest value of a record's length field."""

MAX_RECORD_PLAINTEXT = MAX_RECORD - TAG

FRAME_HEADER = 3
"""u16 length of the body, u8 kind."""

MAX_FRAME_BODY = MAX_RECORD_PLAINTEXT - FRAME_HEADER

MAX_NONCE = 2**64 - 1
"""Reserved by Noise for REKEY: no message is ever sealed under it."""

MAX_NUMBER = 2**53 - 1
"""Serials, versions and numbers of documents: what JSON carries exactly."""

HANDLE = 8
MAX_HOPS = 32
MIN_HANDLES = 2
MAX_HANDLES = 65
"""Of a path in the format: 64 hops; C{max_hops} of policy is lower."""

MAX_SPLICES = 3

E2E_MAC = 16
"""Bytes of the MAC behind message 1: HMAC-SHA256 cut to half its size (RFC 2104, section 5)."""

MAX_DATA_PLAINTEXT = 64_512
MAX_DATA_CIPHERTEXT = MAX_DATA_PLAINTEXT + TAG
"""Of E2E_DATA: with the longest path in front of it, a frame still fits a record."""

MAX_CERTIFICATE = 8_192
MAX_HANDSHAKE_DOCUMENTS = 4
MAX_HANDSHAKE_DOCUMENT_BYTES = 16_384
"""Of all genesis documents in one handshake payload together."""

MAX_HANDSHAKE_PAYLOAD = (
    4 + 2 + MAX_CERTIFICATE + 1 + 2 * MAX_HANDSHAKE_DOCUMENTS + MAX_HANDSHAKE_DOCUMENT_BYTES
)
HANDSHAKE_OVERHEAD = 96
"""The most a Noise XX or IK message adds to its payload: ephemeral 32, static 48, tag 16."""

MAX_HANDSHAKE_MESSAGE = MAX_HANDSHAKE_PAYLOAD + HANDSHAKE_OVERHEAD
MESSAGE_1 = 36
"""XX message 1 exactly: ephemeral key 32, genesis version 4."""

RESPONDER_READS = (MESSAGE_1, MAX_HANDSHAKE_MESSAGE)
INITIATOR_READS = (MAX_HANDSHAKE_MESSAGE,)
"""Largest length of each handshake record that end reads, before any full-sized record."""

MAX_NODE_NAME = 63  # a label of a host name, RFC 1035, section 2.3.4
MAX_NODE_RECORD = 2_048
MAX_NODE_RECORDS = 256
"""Node records in one frame."""

MAX_CERTIFICATES = 64
"""Certificates named or carried in one frame."""

MAX_FRAGMENT_INDEX = 63
"""Fragments of one node's record are numbered from 0 to this."""

MAX_DOCUMENT = 16 * 1024 * 1024
MAX_DOCUMENT_CHUNK = 8_192
"""A document up to this travels inline; a larger one is announced and pulled in such pieces."""

MAX_ADDRESS = 128
MAX_VERSION_TEXT = 64
MAX_SERVICE = 32
MAX_FRAGMENTS = 1_024
"""Of one datagram."""

MAX_KEY = 64
"""Characters of the key of a message."""

MAX_REASON = 200
"""Bytes of what a receiver says of a message."""

MAX_ANSWER = 16_000
"""Bytes that a receiver gives back with the outcome of a message, in one frame."""

MAX_NUMBERS = 128
"""Messages that one TAKEN, SETTLED or WAITING names."""

MAX_DATAGRAM_DATA = 16_384 - FRAME_HEADER - (1 + 8 + 1 + MAX_SERVICE + 4)
"""Of one frame: what is left of 16 KiB beside the inner header with the longest service name."""

MAX_ECHO = 1_024
MAX_EXTENSION = 1_024
"""Bytes a later version may append to HELLO and to the end-to-end payloads, ignored by this one."""

MAX_SEEN_RUNS = 32
MAX_STREAM_DETAIL = 200
MAX_STREAM_EXTENSION = 256
"""Of streams: runs in a SEEN, bytes of text in a RESET, bytes that may be appended to OPEN and ACCEPT."""

MAX_SEEN_SPAN = 2**32 - 1
"""Numbers that one SEEN is about: no run of it and no gap is longer than its 32 bits say."""
