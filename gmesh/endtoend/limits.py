# SPDX-License-Identifier: MIT
"""
Every bound of the end-to-end layer: ages of keys, sizes of tables, timeouts.

Names in capitals after "WireGuard" are those of its paper (J. Donenfeld, NDSS 2017, section 6.1), whose
session timers these are; what comes from an RFC names it.
"""

from __future__ import annotations

# Keys

REPLAY_WINDOW = 1_024
"""Counters below the highest one that are remembered (RFC 6479)."""

REKEY_AFTER_TIME = 120.0
"""WireGuard REKEY_AFTER_TIME: age at which the initiator of a session in use begins the next one."""

REKEY_AFTER_TIME_RESPONDER = 165.0
"""WireGuard, REJECT_AFTER_TIME less two timeouts: age at which the responder does, if need be."""

REJECT_AFTER_TIME = 180.0
"""WireGuard REJECT_AFTER_TIME: age from which nothing is sealed any more."""

REKEY_AFTER_MESSAGES = 2**32
REJECT_AFTER_MESSAGES = 2**60
"""WireGuard's, in sealed frames: from these on the next session begins, and nothing is sealed any more."""

RECEIVE_GRACE = 5.0
"""How long retired keys still open frames under way, after a frame on newer keys or L{REJECT_AFTER_TIME}."""

MAX_RETIRED = 3
"""Receive-only sessions kept with one peer."""

REKEY_TIMEOUT = 5.0
REKEY_JITTER = 0.333
"""WireGuard REKEY_TIMEOUT and its jitter: an unanswered handshake is repeated after so long."""

FIRST_TIMEOUT = 3.0
"""The first message 1 of a handshake is repeated sooner: a relay that drops it is left within 5 s."""

REKEY_ATTEMPT_TIME = 90.0
"""WireGuard REKEY_ATTEMPT_TIME: a handshake is given up after so long."""

HANDSHAKE_SPACING = 1.0
"""A handshake that a relay could not pass on is repeated no sooner than this after it was sent."""

TIE_TIME = 2.0
"""After beginning a handshake the smaller handle ignores the other's for so long."""

MAX_STATIC_KEYS = 8
"""Own X25519 keys kept ready: the current one and those of certificates not yet ended."""

MAX_PENDING_FRAMES = 64
MAX_PENDING_BYTES = 256 * 1024
"""What is queued for one handshake; the oldest goes first."""

# Associations

MAX_SESSIONS = 1_024
"""Peers with an association; policy may lower it."""

FORGET_IDLE = 600.0
"""A peer without traffic for so long is forgotten; its keys end far earlier, by L{REJECT_AFTER_TIME}."""

MAX_SOURCES = 4_096
"""Peers whose greatest handshake number is remembered, and peers gone whose last message numbers are."""

TIMER_GRAIN = 0.001
"""No timer is shorter: a deadline missed by a rounding error must not be asked about forever."""

# Strangers

INIT_LINK_RATE = 20.0
INIT_LINK_BURST = 20.0
"""Handshakes a second looked at from one ingress link."""

INIT_SOURCE_RATE = 0.2
INIT_SOURCE_BURST = 2.0
"""Handshakes a second from one claimed source over one ingress link; the burst lets a node restart."""

MAX_LIMITED_LINKS = 4_096
"""Neighbours, or members, whose handshakes are limited; those that have spent nothing lately go first."""

# Members that show who they are

INIT_MEMBER_RATE = 1.0
INIT_MEMBER_BURST = 10.0
"""Handshakes a second that a member's own key made; it repeats none sooner than L{HANDSHAKE_SPACING}."""

MAC_KEY_RATE = 500.0
MAC_KEY_BURST = 500.0
"""Keys a second computed to check who a handshake is of: 25 ms, until those of all members are there."""

MAX_MAC_KEYS = 8_192
"""Such keys kept: twice as many as the nodes that a directory holds unless the policy says otherwise."""

# Sealing

INITIAL_BATCH = 8_192
MAX_BATCH = 16_256
SLOW_PATH_BATCH = 4_096
"""Bytes of inner frames that share a seal: at first, then by the round trip (L{SLOW_PATH})."""

MAX_SEGMENT = 64_384
SEGMENT_TIME = 0.004
SEGMENTS_PER_WINDOW = 8
"""
Bytes of byte streams that share a seal: as many as the path delivers in so many seconds, and so many of
them in a window, but no fewer than of messages: each costs every node on the way the same, large or small.
"""

FRAMES_PER_WRITE = 8
"""Frames sealed one after the other: as many of the largest as a link writes ahead at most."""

SLOW_PATH = 0.1
"""Round trip under load, in seconds, above which frames are kept small."""

AUTHORIZATION_LIFE = 1.0
"""How long a sender relies on its checks while nothing changes that it would be informed of."""

# Datagrams

MAX_DATAGRAM = 65_536
"""Bytes of data in one datagram; a call with more is refused."""

FRAGMENT_SIZE = 8_192
"""Bytes of data in one frame; only the source cuts a longer datagram and only the destination joins it."""

WHOLE_SIZE = 16_256
"""An unacknowledged datagram up to this is not cut: its pieces would have to be put together again."""

DEFAULT_TIMEOUT = 10.0
MAX_TIMEOUT = 300.0
"""Longest that a sender waits for a message to arrive and be dealt with."""

MESSAGE_COST = 64
"""Bytes charged for a message beside its data."""

ACK_WINDOW = 1_024
"""Acknowledged messages of one peer that are remembered; a sender's unanswered ones lie within it."""

MAX_SENDER_STARTS = 2
"""Starts of one peer's reliable sender whose message numbers are remembered: the last and the one before."""

MAX_RELIABLE_MESSAGES = 1_024
MAX_RELIABLE_BYTES = 4 * 1024 * 1024
"""Acknowledged messages to one service of one peer that wait, are under way, or wait for their outcome."""

MAX_PEER_MESSAGES = 4_096
MAX_PEER_BYTES = 16 * 1024 * 1024
"""The same, to all services of one peer."""

BUSY_PAUSE = 0.05
MAX_BUSY_PAUSE = 0.4
"""A service that had no room for a message is tried again with one after so long, doubling."""

SERVICE_RETURNS = 10.0
"""A service that was there so lately is not missed at once: its program restarts, or its node."""

MAX_LANES = 256
"""Services of one peer of which is remembered how fast they take messages."""

TAKEN_DELAY = 0.01
"""
How long a message is held before its sender is told: one whose receiver is done by then needs but one answer.
Less than half of what QUIC allows (RFC 9000, max_ack_delay), and of L{QUEUEING_DELAY}.
"""

ASK_WAITING = 5.0
"""A peer that holds a message is asked about it so often: it may have been restarted."""

MAX_HELD = 1_024
"""Messages of one peer that this node holds, for all services: their receivers are not done with them."""

OUTCOME_LIFE = 60.0
"""An outcome that is not confirmed is repeated for so long; after that its sender asks, or has given up."""

MAX_ANSWER_BYTES = 1024 * 1024
"""Answers to one peer that it has not confirmed; the oldest go, and their outcomes are told without them."""

# Keys of messages

KEY_LIFE = 86_400
"""Seconds for which a key that was acknowledged is known."""

MAX_PEER_KEYS = 8_192
MAX_KEYS = 65_536
"""Keys remembered of one peer, and of all; the oldest go, those of the peer with the most first."""

MAX_REASSEMBLIES = 16
MAX_REASSEMBLY_BYTES = 512 * 1024
"""Incomplete datagrams held for one peer."""

MAX_REASSEMBLY_TOTAL = 16 * 1024 * 1024
"""The same for all peers."""

REASSEMBLY_TIME = 15.0
"""Seconds an incomplete datagram is kept."""

# Congestion

MIN_RTO = 0.3
INITIAL_RTO = 1.0
MAX_RTO = 10.0
"""RFC 6298: SRTT + 4 RTTVAR between these, INITIAL_RTO before the first round trip, doubling."""

INITIAL_WINDOW = 32 * 1024
MIN_WINDOW = 2 * 1024
MAX_WINDOW = 192 * 1024
"""Unacknowledged bytes to one peer, by the names of RFC 9002: at first, after losses, at most."""

LOSS_REDUCTION = 0.7
"""RFC 9002 kLossReductionFactor, with the value of CUBIC (RFC 9438, beta)."""

MAX_BATCH_WINDOW = 6 * 1024 * 1024
"""
Most bytes of unacknowledged messages under way to one peer; both windows together stay below
the 8 MiB a link holds of one flow, so that a relay whose next link stalls drops nothing of either.
Three nodes on two processors take turns of milliseconds, in which each passes on megabytes.  Where
turns take longer, it shrinks to what the path delivers in L{QUEUEING_DELAY}.
"""

QUEUEING_DELAY = 0.02
"""
Seconds.  While the round trip is above twice the least one and this, the window shrinks to what the path
delivers in that time, L{INITIAL_WINDOW} at least, and otherwise grows no further.
"""

RATE_HALF_LIFE = 10.0
"""
Seconds after which half is left of the most that the path was seen to deliver.  Where nodes wait for their
turn on a processor it delivers less to a smaller window: what it did deliver must be remembered for longer.
"""

OVERSHOOT = 2 * MAX_BATCH
"""
Bytes that may be under way beyond the window: a frame that was begun, and one that was gathered.  Where one
message (L{MAX_DATAGRAM}) or segment (L{MAX_SEGMENT}) has more bytes, it is that one, for the window is asked
before each.
"""

MEASURE_AGAIN = 10.0
"""
Seconds.  Round trips that are long for so long, although the window shrinks, say that the path has become
longer: nothing else is under way until its least round trip was measured anew (BBR's ProbeRTT, whose interval
this is).
"""

LONG_RTT_WINDOW = 1536 * 1024
"""The same while it is not known what the path delivers."""

ASKS_PER_WINDOW = 4
MAX_TIMED_ASKS = 16
"""How often in a window the far end is asked how far it has got, and how many questions are timed at once."""

FAST_RETRANSMIT = 0.05
MAX_FAST_RETRANSMITS = 5
"""A message that a relay could not pass on is sent again so soon, so often; after that at its usual time."""

TRIES_BEFORE_BLAME = 2
"""After so many unanswered transmissions of a message the path is suspected, and another is tried."""

LOSSES_BEFORE_BLAME = 4
LOSSY_SHARE = 0.06
TRIALS_REMEMBERED = 128
"""So is one that loses so many, and that share, of the last so many: no link drops that much in silence."""

ASK_EVERY = 1.0
"""Seconds after which the far end is asked about messages that fill no quarter of a window."""

# What a peer can make this node do

ANSWER_RATE = 20_000.0
ANSWER_BURST = 20_000.0
"""
Inner frames a second, and at once, that want more than to be handed over, and messages that they ask about:
a fifth of a core at most.
"""

DENIAL_RATE = 10.0
DENIAL_BURST = 20.0
"""How often a peer is told that the policy denies it something: a node that knows the policy asks seldom."""

MAX_DROPPED_SERVICES = 64
"""Services of one peer whose messages are dropped without a look, as there is no receiver, or no right."""

# Services and this node's tables

ECHO_RATE = 5_000.0
ECHO_BURST = 10_000.0
"""Pings a second, and at once, that are answered."""

ECHO_PEER_RATE = 1_000.0
ECHO_PEER_BURST = 2_000.0
"""Of these, from one peer: C{gmesh ping --count} asks again as soon as it has an answer."""

PING_INTERVAL = 1.0
PING_TIMEOUT = 5.0

MAX_POSTS = 1_024
"""Pairs of node and service whose sender is remembered."""

MAX_SUBJECTS = 4_096
"""Nodes whose place in the policy is remembered."""

MAX_SERVICES = 1_024
"""Services that have a receiver."""

AWAITED_COST = 4_096
"""
Bytes charged for a service for whose first receiver messages wait after a start, beside those messages:
L{SERVICE_TOTAL_BYTES} in all, L{SERVICE_QUEUE_BYTES} of one peer, which so names some 250 services.
"""

SERVICE_CONCURRENT = 64
"""Messages one receiver may be busy with, unless it says otherwise."""

SERVICE_QUEUE_MESSAGES = 256
SERVICE_QUEUE_BYTES = 1024 * 1024
"""Messages of one peer queued for one service."""

SERVICE_TOTAL_MESSAGES = 1_024
SERVICE_TOTAL_BYTES = 4 * 1024 * 1024
"""The same, of all peers."""

RECEIVER_RETURNS = 10.0
"""So long messages wait for a program that went away while it had to do with them."""

MAX_HANDS = 2
"""A message is handed over so often: once more when a program died with it, so that none dies of it again."""
