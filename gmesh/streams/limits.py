# SPDX-License-Identifier: MIT
"""Every bound of byte streams: credit, memory, numbers of streams, times. What comes from an RFC names it."""

from __future__ import annotations

from gmesh.endtoend.limits import MAX_BATCH_WINDOW
from gmesh.token_bucket import Rate

# Acknowledgement and loss

LATER_SEGMENTS = 3
"""RFC 9002 kPacketThreshold: a segment is lost when one so far above it, by the same path, has arrived."""

TIME_THRESHOLD = 9 / 8
"""RFC 9002 kTimeThreshold: or one above it is, and it was sent so many round trips ago."""

INITIAL_RTT = 0.333
"""RFC 9002 kInitialRtt."""

MIN_PROBE = 0.1
MAX_PROBE = 10.0
"""Unanswered for so long, at first and after doubling, the oldest segment is sent again."""

SEEN_DELAY = 0.025
"""RFC 9000 max_ack_delay: what was seen is reported after so long, if nothing carries the report sooner."""

PROBES_BEFORE_BLAME = 2
"""The path is suspected at the second probe in a row, as for messages (TRIES_BEFORE_BLAME)."""

PROBES_BEFORE_COLLAPSE = 3
"""At the third, everything under way is lost (RFC 9002, section 7.6)."""

HURRY = 0.05
MAX_HURRIES = 5
"""After word of a dropped frame the next probe comes so soon, so often until something is acknowledged."""

MAX_GENERATIONS = 8
"""Changes of the path that are told apart at once."""

# Life

KEEPALIVE = 30.0
KEEPALIVE_JITTER = 0.2
"""With streams open and nothing heard for so long, give or take that share, something is sent to answer."""

PATIENCE = 300.0
"""With something unacknowledged and nothing heard for so long, the streams of a peer are lost."""

REATTACH = 5.0
"""Streams whose association was given up look for another so often."""

RETRY = 0.2
"""While there is no path to the peer, one is looked for so often."""

OPEN_TIMEOUT = 30.0
"""For an open to be accepted, and for its offer to be taken."""

CLOSE_TIMEOUT = 30.0
"""For the end of a stream that was closed to be acknowledged, once it was sent."""

JUDGE_EVERY = 1.0
"""While streams are open: whether this node has lost touch with its authority is looked at so often."""

# Credit is memory

FIRST_CREDIT = 256 * 1024
SPARE_CREDIT = 64 * 1024
LAST_CREDIT = 16 * 1024
"""
What the far end may send at first: while less than a quarter of the budget is used, then half, and beyond.

The second half is enough for as many streams as a peer may have.
"""

MAX_CREDIT = MAX_BATCH_WINDOW
"""Most that one stream may have under way: what may be under way to a peer."""

TOLD_PER_WINDOW = 4
"""
How often in a window more credit is told.  Were it twice, no more than half a window would be read in a round
trip that ends for want of credit, and twice that is no more than there is.
"""

MIN_CREDIT_RTT = 0.01
"""Credit covers a turn of two busy processors, where the round trip is shorter."""

CREDIT_IDLE = 60.0
"""After so long without a byte the credit of a stream begins at L{FIRST_CREDIT} again."""

NODE_CREDIT = 64 * 1024 * 1024
PEER_CREDIT = NODE_CREDIT // 2
"""Granted and not consumed, by all streams of a node, and by those of one peer."""

NODE_UNACKNOWLEDGED = 64 * 1024 * 1024
PEER_UNACKNOWLEDGED = 32 * 1024
"""Sent and not acknowledged, by all streams of a node; beyond it each peer may still have so much."""

HIGH_WATER = 64 * 1024
"""A producer is paused when so much is written and not sent."""

MAX_PIECES = 1_024
"""Pieces of one peer's streams that came before what belongs in front of them."""

# Streams

MAX_STREAMS = 4_096
MAX_PEER_STREAMS = 1_024
MAX_UNACCEPTED = 64
"""Open on a node; with one peer; opened by one peer and not yet accepted."""

OPENS = Rate(200.0, 400.0)
"""Opens of one peer, a second and at once; more are refused as C{busy}."""

MAX_LOOSE = 1_024
"""Refusals and resets on their way to one peer; one more is not said."""

OPENED_REMEMBERED = 4_096
"""Streams that a peer opened, whose numbers are not taken for new ones again."""

BYTES_PER_TURN = 256 * 1024
"""Sent to a peer before other events of the reactor have their turn."""

SMALLEST_PIECE = 1_024
"""A segment with less room than this is sent, rather than filled with a sliver of a long stream."""

MAX_LABELS = 64
"""Services that are counted by name; others together."""
