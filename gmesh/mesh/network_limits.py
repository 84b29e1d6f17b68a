# SPDX-License-Identifier: MIT
"""Every limit of flooding, gossip and forwarding under its name; seconds and bytes unless said otherwise."""

from __future__ import annotations

from typing import Final

from gmesh.token_bucket import Rate

__all__ = [
    "ASK_AGAIN",
    "ASK_ELSEWHERE",
    "ASK_STALL",
    "ASSEMBLY_STALL",
    "CERTIFICATE_BATCH",
    "CERTIFICATE_FRAME",
    "DIGEST_BURST",
    "DIGEST_RATE",
    "DOCUMENT_WINDOW",
    "DRAIN_TIME",
    "DUPLICATE_GRACE",
    "EAGER_DEGREE",
    "FAILURE_BURST",
    "FAILURE_RATE",
    "FLUSH_BACKLOG",
    "FLUSH_BYTES",
    "FLUSH_INTERVAL",
    "FLUSH_MOST",
    "FLUSH_RECORD",
    "HEADER_BURST",
    "HEADER_RATE",
    "HOUSEKEEPING_INTERVAL",
    "HANDSHAKES_EACH",
    "HANDSHAKES_EVERY",
    "HANDSHAKES_PAIR",
    "IHAVE_ENTRIES",
    "IHAVE_INTERVAL",
    "LIST_ENTRIES",
    "LSA_FRAME",
    "LSA_FRAME_RECORDS",
    "MAX_DEPARTED",
    "MAX_NOTICE_FLOWS",
    "MAX_OWN_VERDICTS",
    "MAX_QUESTIONS",
    "MAX_SERIALS",
    "MAX_STUB_ORIGINS",
    "MAX_STUB_PATHS",
    "MAX_TRANSITS",
    "MAX_UNJUDGED",
    "MAX_VERDICTS",
    "MAX_WANTED",
    "NOTICE_BURST",
    "NOTICE_RATE",
    "PATH_AGAIN",
    "PATH_FRESH",
    "PATH_PATIENCE",
    "QUESTION_BURST",
    "QUESTION_RATE",
    "RESYNC_INTERVAL",
    "SOURCE_BURST",
    "SOURCE_RATE",
    "STATUS_ASK_INTERVAL",
    "TRANSIT_BURST",
    "TRANSIT_HEADER_BURST",
    "TRANSIT_HEADER_RATE",
    "TRANSIT_RATE",
    "WANTED_INTERVAL",
    "WANT_BATCH",
]

TICK: Final = 1e-6
"""Added to a delay computed from a due time, so that rounding never wakes us a hair too early."""

# -- flooding
FLUSH_INTERVAL: Final = 0.020
FLUSH_RECORD: Final = 0.005
FLUSH_MOST: Final = 0.080
FLUSH_BYTES: Final = 64 * 1024
FLUSH_BACKLOG: Final = 256 * 1024
LSA_FRAME: Final = 16 * 1024
LSA_FRAME_RECORDS: Final = 256
EAGER_DEGREE: Final = 8
IHAVE_INTERVAL: Final = 0.100
IHAVE_ENTRIES: Final = 512
LIST_ENTRIES: Final = 1024
DIGEST_RATE: Final = 0.2
DIGEST_BURST: Final = 3
RESYNC_INTERVAL: Final = 300.0

# -- asking for records and certificates
WANT_BATCH: Final = 64
CERTIFICATE_BATCH: Final = 64
CERTIFICATE_FRAME: Final = 48 * 1024
ASK_AGAIN: Final = 30.0
ASK_STALL: Final = 5.0
ASK_ELSEWHERE: Final = 0.5
MAX_WANTED: Final = 16_384
QUESTION_RATE: Final = 100.0
QUESTION_BURST: Final = 200

# -- paths asked for by a node without a table
PATH_PATIENCE: Final = 1.0
PATH_AGAIN: Final = 1.0
PATH_FRESH: Final = 60.0
MAX_QUESTIONS: Final = 64
MAX_STUB_PATHS: Final = 512
MAX_STUB_ORIGINS: Final = 512

# -- refusals that a link may cause
FAILURE_RATE: Final = 50 / 60
FAILURE_BURST: Final = 50

# -- certificates
MAX_SERIALS: Final = 2
MAX_UNJUDGED: Final = 64
MAX_DEPARTED: Final = 512

# -- documents
ASSEMBLY_STALL: Final = 10.0
DOCUMENT_WINDOW: Final = 4
STATUS_ASK_INTERVAL: Final = 30.0
WANTED_INTERVAL: Final = 5.0

# -- own links and time
HOUSEKEEPING_INTERVAL: Final = 5.0
DUPLICATE_GRACE: Final = 1.0
DRAIN_TIME: Final = 0.5

# -- forwarding
# Headers of one link: of a relay's, and of one whose node sends only what is its own.
MAX_VERDICTS: Final = 4096
MAX_OWN_VERDICTS: Final = 1024
MAX_TRANSITS: Final = 1024
MAX_NOTICE_FLOWS: Final = 1024
NOTICE_RATE: Final = 10.0
HEADER_RATE: Final = 2000.0
HEADER_BURST: Final = 4096
# What one relay hands us of others: that of eight sources who use up all they may.
TRANSIT_HEADER_RATE: Final = 8 * HEADER_RATE
TRANSIT_HEADER_BURST: Final = 8 * HEADER_BURST
# Bytes a source may make others carry, each counted once for every hop behind its first relay.
SOURCE_RATE: Final = 512 * 1024 * 1024
SOURCE_BURST: Final = 64 * 1024 * 1024
TRANSIT_RATE: Final = 8 * SOURCE_RATE
TRANSIT_BURST: Final = 8 * SOURCE_BURST
# Handshakes that one neighbour has us pass on: to one destination half of what that one looks at from us.
HANDSHAKES_EVERY: Final = Rate(1000.0, 1000)
HANDSHAKES_EACH: Final = Rate(10.0, 10)
# From one claimed source to one destination: twice what that one looks at, so that no source takes it all.
HANDSHAKES_PAIR: Final = Rate(0.4, 4)
NOTICE_BURST: Final = 10
