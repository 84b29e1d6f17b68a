# SPDX-License-Identifier: MIT
"""Every bound of the end-to-end layer: ages of keys, sizes of tables, patience."""

from __future__ import annotations

__all__ = [
    "ACK_WINDOW",
    "ADMISSION_LIFE",
    "BATCH",
    "BUNDLE_FIRST",
    "BUNDLE_MOST",
    "BUNDLE_SLOW",
    "DEFAULT_TIMEOUT",
    "FIRST_RTO",
    "FORGET_IDLE",
    "FRAGMENT_SIZE",
    "HANDSHAKE_GIVE_UP",
    "HANDSHAKE_HURRY",
    "HANDSHAKE_JITTER",
    "HANDSHAKE_RETRY",
    "HURRY",
    "INIT_LINK_BURST",
    "INIT_LINK_RATE",
    "INIT_SOURCE_BURST",
    "INIT_SOURCE_RATE",
    "LANE_WINDOW",
    "MAX_DATAGRAM",
    "MAX_HANDSHAKE_GATES",
    "MAX_HURRIES",
    "MAX_OUTBOX_BYTES",
    "MAX_OUTBOX_MESSAGES",
    "MAX_PENDING_BYTES",
    "MAX_PENDING_FRAMES",
    "MAX_POSTS",
    "MAX_QUESTIONS",
    "MAX_REASSEMBLIES",
    "MAX_REASSEMBLY_BYTES",
    "MAX_REASSEMBLY_TOTAL",
    "MAX_RETIRED",
    "MAX_RTO",
    "MAX_SENDER_STARTS",
    "MAX_SERVICES",
    "MAX_SESSIONS",
    "MAX_SOURCES",
    "MAX_STATIC_KEYS",
    "MAX_SUBJECTS",
    "MAX_TIMEOUT",
    "MESSAGE_COST",
    "MIN_RTO",
    "PING_AGAIN",
    "PING_TIMEOUT",
    "QUESTIONS_A_WINDOW",
    "QUEUEING",
    "REASSEMBLY_TIME",
    "RECEIVE_GRACE",
    "REFUSE_AFTER",
    "REFUSE_FRAMES",
    "REHANDSHAKE_AFTER",
    "REHANDSHAKE_EITHER",
    "REHANDSHAKE_FRAMES",
    "REPLAY_WINDOW",
    "SERVICE_CONCURRENT",
    "SERVICE_QUEUE_BYTES",
    "SERVICE_QUEUE_MESSAGES",
    "SLOW_PATH",
    "TIE_TIME",
    "TIMER_GRAIN",
    "TRIES_BEFORE_BLAME",
    "WHOLE_SIZE",
    "WINDOW_FIRST",
    "WINDOW_LONG",
    "WINDOW_LEAST",
    "WINDOW_MOST",
    "WINDOW_SHRINK",
]

REPLAY_WINDOW = 1_024

REHANDSHAKE_AFTER = 120.0
"""Age at which the initiator of a session in use begins the next one."""

REHANDSHAKE_EITHER = 165.0
"""Age at which either end does, should the initiator have failed to."""

REFUSE_AFTER = 180.0
"""Age from which nothing is sealed any more."""

REHANDSHAKE_FRAMES = 2**32
REFUSE_FRAMES = 2**60

RECEIVE_GRACE = 5.0
"""How long retired keys still open what was under way, after a frame on newer keys or L{REFUSE_AFTER}."""

MAX_RETIRED = 3
"""Receive-only sessions kept with one peer."""

TIMER_GRAIN = 0.001
"""No timer is shorter: a deadline missed by a rounding error must not be asked about for ever."""

HANDSHAKE_RETRY = 5.0
HANDSHAKE_JITTER = 0.333
HANDSHAKE_GIVE_UP = 90.0
HANDSHAKE_HURRY = 1.0
"""A handshake that a relay could not pass on is repeated no sooner than this after it was sent."""

FORGET_IDLE = 600.0
"""A peer without traffic for so long is forgotten; its keys are wiped far earlier, by L{REFUSE_AFTER}."""

MAX_SESSIONS = 1_024
"""Peers with session state; policy may lower it."""

MAX_STATIC_KEYS = 8
"""Own X25519 keys kept ready: the current one and those of certificates not yet ended."""

MAX_SOURCES = 4_096
"""Peers whose greatest handshake number is remembered."""

MAX_PENDING_FRAMES = 64
MAX_PENDING_BYTES = 256 * 1024
"""What waits for one handshake; the oldest goes first."""

TIE_TIME = 2.0
"""After beginning a handshake the smaller handle ignores the other's for so long."""

INIT_LINK_RATE = 20.0
INIT_LINK_BURST = 20.0
"""Handshakes a second looked at from one ingress link."""

INIT_SOURCE_RATE = 0.2
INIT_SOURCE_BURST = 2.0
"""Handshakes a second from one claimed source over one ingress link; the burst lets a node restart."""

MAX_HANDSHAKE_GATES = 4_096
"""Neighbours whose handshakes are limited; those that have spent nothing lately go first."""

ADMISSION_LIFE = 1.0
"""How long a flow relies on its checks while nothing of which it is told changes."""

BUNDLE_FIRST = 8_192
BUNDLE_MOST = 16_256
BUNDLE_SLOW = 4_096
"""Bytes of inner frames that share a seal: at first, then by the round trip (L{SLOW_PATH})."""

BATCH = 8
"""Frames sealed one after the other: as many of the largest as fill two records of a link, one write."""

SLOW_PATH = 0.1
"""Round trip under load, in seconds, above which frames are kept small."""

MAX_DATAGRAM = 65_536
"""Bytes of data in one datagram, refused at the call above it."""

FRAGMENT_SIZE = 8_192
"""Bytes of data in one frame; only the source cuts a longer datagram and only the destination joins it."""

WHOLE_SIZE = 16_256
"""An unacknowledged datagram up to this is not cut: pieces would have to be put together again."""

DEFAULT_TIMEOUT = 10.0
MAX_TIMEOUT = 60.0
"""Longest a datagram is retried."""

PING_AGAIN = 1.0
PING_TIMEOUT = 5.0

MIN_RTO = 0.3
FIRST_RTO = 1.0
MAX_RTO = 10.0
"""Retransmission: SRTT + 4 RTTVAR between these, doubling."""

WINDOW_FIRST = 32 * 1024
WINDOW_LEAST = 2 * 1024
WINDOW_MOST = 192 * 1024
"""Unacknowledged bytes to one peer: at first, after losses, at most."""

LANE_WINDOW = 6 * 1024 * 1024
"""
At most under way to one peer of what is not acknowledged a message; both windows together stay below
the 8 MiB a link holds of one flow, so that a relay whose next link stalls drops nothing of either.
Three nodes on two processors take turns of milliseconds, in which each passes on megabytes.  Where
they take longer, L{WINDOW_LONG} is the most: frames would wait until a relay drops them.
"""

QUESTIONS_A_WINDOW = 4
MAX_QUESTIONS = 16
"""How often the far end is asked how far it has got, and how many questions are timed at once."""

WINDOW_SHRINK = 0.7

QUEUEING = 0.02
"""The window does not grow while the round trip is above twice the least one and this."""

WINDOW_LONG = 1536 * 1024
"""More than this may be under way only while the round trip is below that."""

HURRY = 0.05
MAX_HURRIES = 5
"""A message that a relay could not pass on is sent again so soon, so often; else after the usual time."""

TRIES_BEFORE_BLAME = 2
"""After so many unanswered transmissions of a message the path is blamed, and another is tried."""

MESSAGE_COST = 64
"""Bytes charged for a message beside its data."""

ACK_WINDOW = 1_024
"""Acknowledged messages of one peer that are remembered; a sender's unanswered ones lie within it."""

MAX_SENDER_STARTS = 2
"""Starts of one peer whose message numbers are remembered: the last and the one before."""

MAX_OUTBOX_MESSAGES = 1_024
MAX_OUTBOX_BYTES = 4 * 1024 * 1024
"""Acknowledged messages waiting or under way to one peer."""

MAX_POSTS = 1_024
"""Pairs of node and service whose way out is remembered."""

MAX_SUBJECTS = 4_096
"""Nodes whose place in the policy is remembered."""

MAX_SERVICES = 256
SERVICE_CONCURRENT = 64
"""Messages one receiver may be busy with, unless it says otherwise."""

SERVICE_QUEUE_MESSAGES = 256
SERVICE_QUEUE_BYTES = 1024 * 1024
"""Messages that wait for one receiver."""

MAX_REASSEMBLIES = 16
MAX_REASSEMBLY_BYTES = 512 * 1024
"""Incomplete datagrams held for one peer."""

MAX_REASSEMBLY_TOTAL = 16 * 1024 * 1024
"""The same for all peers."""

REASSEMBLY_TIME = 15.0
