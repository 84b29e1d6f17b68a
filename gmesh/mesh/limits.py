# SPDX-License-Identifier: MIT
"""Every limit of links, dialling, flooding, gossip and forwarding; units are seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gmesh.token_bucket import Rate
from gmesh.wire.limits import MAX_RECORD_PLAINTEXT

# Before trust: from the TCP connection to both HELLOs.
HANDSHAKE_DEADLINE = 5.0

# A node whose certificate has ended asks the authority for the next one by an anchor.
RENEWAL_LINK_SECONDS = 60.0
RENEWAL_LINKS = 64
RENEWAL_QUESTIONS = 4

# A host without a certificate joins by an anchor: a few requests, so much at a time for those of one address.
JOIN_LINK_SECONDS = 30.0
JOIN_LINKS = 32
JOIN_LINKS_PER_ADDRESS = 4
JOIN_QUESTIONS = 16
JOIN_QUESTION = 8 * 1024


@dataclass(frozen=True)
class HandshakeLimits:
    """
    What strangers may cost: sockets half open, and handshakes begun a second.

    @ivar rate_of_members: beside C{rate}, for addresses where a member was judged lately.
    @ivar rate_per_network: for an IPv4 /24 or an IPv6 /48: half of C{rate}, so that no owner of one has all.
    @ivar rate_per_address: for an IPv4 address or an IPv6 /64: WireGuard PACKETS_PER_SECOND.
    """

    half_open: int = 512
    half_open_per_address: int = 32
    rate: float = 200.0
    burst: float = 400.0
    rate_of_members: float = 100.0
    burst_of_members: float = 200.0
    rate_per_address: float = 20.0
    burst_per_address: float = 60.0
    rate_per_network: float = 100.0
    burst_per_network: float = 200.0
    addresses: int = 4096


@dataclass(frozen=True)
class KeepaliveProfile:
    """When a silent neighbour is asked, doubted and given up."""

    ping_after: float = 5.0
    jitter: float = 0.1
    pong_within: float = 3.0
    dead_after: float = 15.0


WAN = KeepaliveProfile()
LAN = KeepaliveProfile(ping_after=1.0, pong_within=0.5, dead_after=3.0)

# A busy link is asked for its round trip this often, though it needs no PING to be known alive.
RTT_REFRESH = 30.0
# Weight of a sample in the smoothed round trip: babeld rtt-decay, RFC 9616.
RTT_WEIGHT = 42 / 256

# Believed certificates of peers kept in parsed form, so that one that comes back costs less.
CERTIFICATES_READ = 512

# A peer that takes none of our bytes for this long is stuck.
BLOCKED_DEADLINE = 15.0
# A closing link may take this long to drain; one that is cut, to hear why.
DRAIN_DEADLINE = 5.0
PARTING_DEADLINE = 1.0

# Each direction of a hop is rekeyed after so many records or seconds: REKEY, Noise specification 4.2.
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
# Of a link that is judged so much is read at once, half of what the other end may have ahead: each read costs
# a turn of the reactor.  What control frames may cost in a turn is counted frame by frame.
READ_SIZE = 256 * 1024
PACE_WEIGHT = 1 / 2
RECORD_CLOSE = MAX_RECORD_PLAINTEXT
MAX_DATA_FRAME = MAX_RECORD_PLAINTEXT
# Linux TCP_NOTSENT_LOWAT, and the user timeout of RFC 5482.
TCP_UNSENT_LOW_WATER = 16 * 1024
TCP_USER_TIMEOUT_MS = 20_000

# One flow may fill the queue of a link, so that a stalled link drops nothing of a whole end-to-end window;
# when others want room, the largest flow of the neighbour of which most waits makes it.
CONTROL_QUEUE_BYTES = 512 * 1024
DATA_QUEUE_BYTES = 8 * 1024 * 1024
DATA_FLOW_BYTES = 8 * 1024 * 1024
# Flows of one neighbour that may wait for one link; of many neighbours, each has its part of DATA_FLOWS_ALL.
DATA_FLOWS = 256
DATA_FLOWS_ALL = 4096
# All links of a node together: so many bytes of data wait, however many links are slow.
NODE_DATA_BYTES = 64 * 1024 * 1024
# Deficit round robin between neighbours, then between flows (Shreedhar, Varghese 1995); of the flows of one
# neighbour, those of small frames get several quanta.
DRR_QUANTUM = 16 * 1024
SMALL_FRAME = 1024
SMALL_FRAME_WEIGHT = 4
# A relayed frame that was queued so long, and as long as so many of its size take to send, each times the
# neighbours that share the link, makes room: the sojourn time of CoDel (RFC 8289), with bounds of our own.
SOJOURN = 0.05
SOJOURN_FRAMES = 4
# A local sender is paused and resumed at these.
SENDER_HIGH_WATER = 64 * 1024
SENDER_LOW_WATER = 16 * 1024

# What one look at a link may show.
CAPTURE_FRAMES = 4096
CAPTURE_SECONDS = 60.0

# Back-off with full jitter (Brooker, "Exponential Backoff and Jitter", 2015).
DIAL_DEADLINE = 5.0
NAMES_AT_ONCE = 8
"""Look-ups of names that genesis and options have: more than dials at once, as each may outlive its dial."""
TOLD_NAMES_AT_ONCE = 2
"""Those that records and commands have: whoever wrote them may have the server that never answers."""
DIALS_AT_ONCE = 8
DIAL_BACKOFF_FIRST = 1.0
DIAL_BACKOFF_CAP = 60.0
DIAL_STABLE = 10.0
"""
Seconds after which a link was a good one, so that its end is a first failure.  Less than C{dead_after}: a
host that is moved again and again, and each time hears nothing more, need not wait longer each time.
"""
DIAL_REFUSED_RETRY = 60.0
# Where another host with our keys is linked: it is rarely stopped by itself, and each attempt costs lines.
DIAL_TWIN_RETRY = 600.0
# How long two hosts with one node's keys are told from a restart after they were last at work.
TWIN_MEMORY = 3600.0
TWIN_NODES = 4096
BOOTS_REMEMBERED = 4
# Records of ours that others made, a while after the start: a lost sequence explains one or two.
OWN_RECORDS_ODD = 3
# The neighbours of a node with a new Noise key dial it within this; its old certificate lasts for hours.
REDIAL_SPREAD = 30.0
# With so many links to relays, and to anchors among them, a node dials no spare targets.
TARGET_DEGREE = 4
TARGET_ANCHORS = 2
# A link of our own dialling is replaced after this, give or take a tenth: no session key lives longer.
SESSION_LIFE = 86400.0
SESSION_JITTER = 0.1

TICK: Final = 1e-6
"""Added to a delay computed from a due time, so that rounding never wakes us slightly too early."""

# -- flooding: records pushed at once to EAGER_DEGREE neighbours and named to the others, as in Plumtree
# (Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", 2007)
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

# -- what control frames of one neighbour may cost, in seconds of CPU time: so many a second, so many at once
# (what a node that has missed thousands of records needs), so many in one turn of the reactor.  A frame costs
# at least CONTROL_FRAME, for opening its record and sealing an answer.
CONTROL_RATE: Final = 0.2
CONTROL_BURST: Final = 1.0
CONTROL_TURN: Final = 0.005
CONTROL_FRAME: Final = 10e-6
# A link that was not read for so many seconds is left; of these, so many a second are forgotten.
CONTROL_PATIENCE: Final = 60.0
CONTROL_PATIENCE_BACK: Final = 0.1
MAX_CONTROL_BUDGETS: Final = 1024
# New keys of a hop: a second, and at once.
REKEY_RATE: Final = 1.0
REKEY_BURST: Final = 32

# -- certificates
MAX_SERIALS: Final = 2
MAX_UNJUDGED: Final = 64
MAX_DEPARTED: Final = 512

# What is remembered of nodes that were neighbours: as many as may have a link.
MAX_STANDINGS: Final = 4096

# -- documents
ASSEMBLY_STALL: Final = 10.0
DOCUMENT_WINDOW: Final = 4
# A larger one is read beside the reactor.
DOCUMENT_ASIDE: Final = 64 * 1024
# Sources of one document at once: of one that the status names, of one whose number is only claimed.
PULLS_NAMED: Final = 4
PULLS_CLAIMED: Final = 1
# One more source is asked after so long where all are behind PULL_RATE (2 Mbit/s), else after PULL_COMPANY:
# of 5 sources chosen at random all are among a hostile third once in 243 times, so an honest one is asked
# within 4 * PULL_BESIDE.
PULL_BESIDE: Final = 0.25
PULL_COMPANY: Final = 2.0
PULL_RATE: Final = 256 * 1024
# Where all places are taken these times are multiplied, twice as much each time, at most by this.
PULL_PATIENCE_MOST: Final = 128.0
# A source slower than this is given up even if there is no other: 128 kbit/s.
PULL_LEAST: Final = 16 * 1024
# What did not come is asked for again: a neighbour answers QUESTION_RATE, and no more than that.
PULL_AGAIN: Final = 1.0
# Who did not keep what they announced wait: so long at first, then twice as long each time.
PULL_PAUSE: Final = 10.0
PULL_PAUSE_MOST: Final = 3600.0
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
# UNREACH of one source and DROPPED of one flow, sent and heard; to all behind one neighbour so many are sent.
NOTICES_EACH: Final = Rate(10.0, 10)
NOTICES_SENT: Final = Rate(512.0, 1024)
# So many are looked at that come by one neighbour: an UNREACH costs 0.15 ms for its signature, a DROPPED at
# most 0.05 ms, and of these an honest relay sends as many.
UNREACH_HEARD: Final = Rate(100.0, 200)
DROPPED_HEARD: Final = NOTICES_SENT
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
# Handshakes that one neighbour has us pass on: to one destination half of what it looks at from us
# (INIT_LINK_RATE of gmesh.endtoend.limits).
HANDSHAKES_EVERY: Final = Rate(1000.0, 1000)
HANDSHAKES_EACH: Final = Rate(10.0, 10)
# From one claimed source to one destination: twice what that looks at (INIT_SOURCE_RATE), so that no source
# takes it all.
HANDSHAKES_PAIR: Final = Rate(0.4, 4)
