# SPDX-License-Identifier: MIT
"""Every limit of links and dialling under its name; seconds and bytes unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from gmesh.wire.limits import MAX_RECORD_PLAINTEXT

__all__ = [
    "TARGET_ANCHORS",
    "TARGET_DEGREE",
    "SESSION_LIFE",
    "SESSION_JITTER",
    "CAPTURE_FRAMES",
    "CAPTURE_SECONDS",
    "RECORD_CLOSE",
    "PACE_WEIGHT",
    "SEND_LIMIT",
    "AHEAD_MOST",
    "AHEAD_FIRST",
    "AHEAD_LEAST",
    "AHEAD_TIME",
    "SOJOURN_FRAMES",
    "SOJOURN",
    "SENDER_LOW_WATER",
    "SENDER_HIGH_WATER",
    "BLOCKED_DEADLINE",
    "CERTIFICATES_READ",
    "CONTROL_QUEUE_BYTES",
    "DATA_FLOWS",
    "DATA_FLOW_BYTES",
    "DATA_QUEUE_BYTES",
    "DIALS_AT_ONCE",
    "DIAL_BACKOFF_CAP",
    "DIAL_BACKOFF_FIRST",
    "DIAL_DEADLINE",
    "DIAL_REFUSED_RETRY",
    "DIAL_STABLE",
    "DRAIN_DEADLINE",
    "DRR_QUANTUM",
    "HANDSHAKE_DEADLINE",
    "HANDSHAKE_MESSAGE",
    "LAN",
    "MAX_DATA_FRAME",
    "NODE_DATA_BYTES",
    "PARTING_DEADLINE",
    "REFUSAL_LOG_BURST",
    "REFUSAL_LOG_SPACING",
    "REDIAL_SPREAD",
    "REKEY_INTERVAL",
    "REKEY_RECORDS",
    "RTT_REFRESH",
    "RTT_WEIGHT",
    "SMALL_FRAME",
    "SMALL_FRAME_WEIGHT",
    "TCP_UNSENT_LOW_WATER",
    "TCP_USER_TIMEOUT_MS",
    "WAN",
    "HandshakeLimits",
    "Liveliness",
]

# Before trust: from the TCP connection to both HELLOs; no message of a handshake may be longer.
HANDSHAKE_DEADLINE = 5.0
HANDSHAKE_MESSAGE = 32 * 1024


@dataclass(frozen=True)
class HandshakeLimits:
    """What strangers may cost: sockets half open, and handshakes begun a second."""

    half_open: int = 512
    half_open_per_address: int = 32
    rate: float = 200.0
    burst: float = 400.0
    rate_per_address: float = 20.0
    burst_per_address: float = 60.0
    addresses: int = 4096


@dataclass(frozen=True)
class Liveliness:
    """When a silent neighbour is asked, doubted and given up."""

    ping_after: float = 5.0
    jitter: float = 0.1
    pong_within: float = 3.0
    dead_after: float = 15.0


WAN = Liveliness()
LAN = Liveliness(ping_after=1.0, pong_within=0.5, dead_after=3.0)

# A busy link is asked for its round trip this often, though it needs no PING to be known alive.
RTT_REFRESH = 30.0
RTT_WEIGHT = 42 / 256

# Believed certificates of peers kept in parsed form, so that one that comes back costs less.
CERTIFICATES_READ = 512

# A peer that takes none of our bytes for this long is stuck.
BLOCKED_DEADLINE = 15.0
# A closing link may take this long to drain; one that is cut, to hear why.
DRAIN_DEADLINE = 5.0
PARTING_DEADLINE = 1.0

REKEY_RECORDS = 1 << 20
REKEY_INTERVAL = 600.0

# What may stand before a control frame in user space: so many seconds of data as the transport was
# last seen to pass on, within these bounds: AHEAD_MOST is those seconds at 100 MB/s, and what a link
# may cost beside its queue.  As much may the system hold unsent, at first TCP_UNSENT_LOW_WATER: where
# nodes share a processor, each must find work for its whole turn.  A record holds what fits into
# RECORD_CLOSE, or into what is left.
AHEAD_TIME = 0.005
AHEAD_LEAST = 16 * 1024
AHEAD_FIRST = 32 * 1024
AHEAD_MOST = 496 * 1024
# The reactor hands the system so much in one call: all that may be ahead.  Twisted's own 128 KiB is less than
# one read may bring, so that a relay would queue what it could pass on.
SEND_LIMIT = 512 * 1024
PACE_WEIGHT = 1 / 2
RECORD_CLOSE = MAX_RECORD_PLAINTEXT
MAX_DATA_FRAME = 20 * 1024
TCP_UNSENT_LOW_WATER = 16 * 1024
TCP_USER_TIMEOUT_MS = 20_000

# One flow may fill the queue of a link, so that a stalled link drops nothing of a whole end-to-end window;
# when others want room, the largest flow makes it.
CONTROL_QUEUE_BYTES = 512 * 1024
DATA_QUEUE_BYTES = 8 * 1024 * 1024
DATA_FLOW_BYTES = 8 * 1024 * 1024
DATA_FLOWS = 256
# All links of a node together: so many bytes of data wait, however many links are slow.
NODE_DATA_BYTES = 64 * 1024 * 1024
DRR_QUANTUM = 16 * 1024
SMALL_FRAME = 1024
SMALL_FRAME_WEIGHT = 4
# A relayed frame that has waited so long, and as long as so many of its size take to send, makes room.
SOJOURN = 0.05
SOJOURN_FRAMES = 4
# A local sender is paused and resumed at these.
SENDER_HIGH_WATER = 64 * 1024
SENDER_LOW_WATER = 16 * 1024

# What one look at a link may show.
CAPTURE_FRAMES = 4096
CAPTURE_SECONDS = 60.0

DIAL_DEADLINE = 5.0
DIALS_AT_ONCE = 8
DIAL_BACKOFF_FIRST = 1.0
DIAL_BACKOFF_CAP = 60.0
DIAL_STABLE = 60.0
DIAL_REFUSED_RETRY = 60.0
# The neighbours of a node with a new Noise key dial it within this; its old certificate lasts for hours.
REDIAL_SPREAD = 30.0
# With so many links to relays, and to anchors among them, a node dials no spare targets.
TARGET_DEGREE = 4
TARGET_ANCHORS = 2
# A link of our own dialling is made anew after this, give or take a tenth: no session key lives longer.
SESSION_LIFE = 86400.0
SESSION_JITTER = 0.1

# Of one cause: this many lines at once, then one in so many seconds.
REFUSAL_LOG_BURST = 5
REFUSAL_LOG_SPACING = 10.0
