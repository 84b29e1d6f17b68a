# SPDX-License-Identifier: MIT
"""Every limit and period of the node daemon, under its name."""

from __future__ import annotations

from gmesh.token_bucket import Rate

HEARTBEAT_PERIOD = 60.0
HEARTBEAT_JITTER = 0.2

LONG_POLL_TIMEOUT = 40.0
"""Seconds the client waits: the authority answers after 25 at most."""
LONG_POLL_RETRY = 5.0
"""Seconds, plus or minus the jitter, before the next long poll after a failed one."""
LONG_POLL_CUT = 8.0
"""Seconds after which a long poll without an answer was cut by a proxy that waits for less than it takes."""
LONG_POLL_SPACING = 0.2
"""Seconds between an answer and the next long poll: several changes at once are one answer."""

RENEWAL_JITTER = 0.1
RENEWAL_LATE = 0.75
"""Of a certificate's life: no newer one by then means a wrong clock, or replayed answers."""
RENEWAL_CHECK = 600.0
"""Longest sleep before looking at the wall clock again: it may be stepped."""
RENEWAL_AFTER_CONTACT = 20.0
"""Seconds over which nodes spread renewals that an outage held up."""
RENEWAL_RETRY_FLOOR = 5.0
RENEWAL_RETRY_CEILING = 300.0

NOISE_KEY_LIFE = 7 * 86400
"""Seconds after which a renewal brings a new Noise key too."""
MAX_OLD_NOISE_KEYS = 8

RELAY_ANCHORS_TRIED = 2
RELAY_BODY_LIMIT = 32 * 1024
RELAY_ANSWER_LIMIT = 40 * 1024
"""With base64 it fits a datagram; larger documents come by gossip."""
RELAY_IN_FLIGHT = 64
RELAY_RATE = 0.2
RELAY_BURST = 10
"""Requests a second, and at once, that an anchor passes on for one node."""
RELAY_SOURCES = 4096

JOIN_IN_FLIGHT = 8
JOIN_RATE = Rate(5.0, 50)
JOIN_RATE_PER_ADDRESS = Rate(1.0, 40)
"""Requests a second, and at once, that an anchor passes on for hosts that join: well below what the authority
takes from one address, so that its own are heard.  A join is five of them."""
JOIN_POST_RATE = Rate(1.0, 20)
JOIN_POST_RATE_PER_ADDRESS = Rate(0.2, 10)
"""Of these, joins."""
JOIN_WAIT = 5
"""Seconds after which a host that asked too much is told to ask again."""

MAX_COMMANDS_HELD = 64
MAX_COMMAND_BYTES_HELD = 256 * 1024
"""Commands kept for neighbours that ask; what a neighbour asks for at once fits its control queue."""
MAX_COMMANDS_WAITING = 16
"""Commands that the authority countersigned, kept until the policy comes that knows who gave them."""
MAX_COMMANDS_WAITING_A_SIGNER = 4
MAX_COMMANDS_SEEN = 1024
MAX_COMMAND_LIFE = 7 * 86400
MAX_RECEIPTS = 256
MAX_ALARMS = 16
"""Kinds of alarms, and of each the sentences that are said once."""
MAX_FAULTS = 32
"""In a heartbeat, as the authority takes them."""
MAX_ALARMED = 1024
ALARM_SPACING = 3600.0
"""Seconds without an alarm of a kind about a node, after which the next one is worth a line again."""
MAX_REVOKED_KEPT = 4096
RECEIPTS_A_HEARTBEAT = 16
"""The longest, with all else that a heartbeat says, fit C{RELAY_BODY_LIMIT}, which the authority has too."""
RECEIPT_SPREAD = 3.0
"""Seconds over which the nodes of a fleet spread the heartbeats that carry a receipt."""
NEWS_DEADLINE = 30.0
"""Seconds in which a document that a command names must come."""
PING_REPORT_NODES = 16
PING_REPORT_DEADLINE = 10.0
SHUTDOWN_DELAY = 4.0
"""Seconds between the command and the end: its receipt goes first."""

BEHIND_CONNECTIONS = 256
"""To a web server behind the port of a node: each costs two descriptors."""
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of one answer of the authority: a CRL of 100,000 entries is about 4 MB."""
ANSWER_HEAD_LIMIT = 64 * 1024
"""Bytes of its head, before a body: well above what proxies let pass (nginx 4 to 8 KiB, HAProxy 16)."""
INTERIM_ANSWERS = 8
"""Answers of class 1xx before the final one."""
DETAIL_LIMIT = 200
"""Characters of a problem's detail that go into our log."""
GENESIS_VERSIONS_A_FETCH = 64

STATE_FILE_LIMIT = 1024 * 1024
"""Bytes of C{state.json}, C{floors.json} or C{authority.json}."""

KEY_LOG_LIMIT = 16 * 1024 * 1024
"""Bytes of C{message-keys.log}; it is written anew long before."""

STATE_WRITE_BEHIND = 5.0
"""Seconds in which the rising numbers of C{state.json} are written once."""
STATE_WRITE_AGAIN = 60.0
"""Seconds until what a full disk did not take is written again."""

MAX_LEARNED = 64
MAX_LINKS_CLIENT = 8
MAX_LINKS_RELAY = 64
MAX_LINKS_ANCHOR = 4096

LOCAL_BODY_LIMIT = 2 * 1024 * 1024
LOCAL_BODIES_LIMIT = 16 * 1024 * 1024
"""Bytes of all bodies that the local API holds at once."""
PING_COUNT_LIMIT = 1000
MAX_LEG_SERVICES = 64
MAX_LEG_CONCURRENT = 1_024
"""Services that one connection of messages serves, and messages it may be given of one."""
MAX_LEG_ASKED = 16
MAX_LEG_UNREAD = 4 * 1024 * 1024
"""Tables that wait for a program that does not read, and bytes after which it is not read either."""
MAX_ACKNOWLEDGED = 1_024
"""Messages that one C{POST /v1/receive/ack} names."""
FULL_PAUSE = 0.05
"""Seconds after which a message for which there was no room here is tried again."""

FOLLOW_EVERY = 0.5
"""Seconds between two looks at a table that a client follows."""
WHOIS_CANDIDATES = 8
"""Names listed when the beginning of a name fits several nodes."""

LAG_PERIOD = 1.0
LAG_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
"""Seconds by which the reactor may be late; a second or more and keepalives begin to suffer."""

STOP_POLL = 0.05
STOP_DEADLINE = 6.0
"""Seconds that links may take to drain when the daemon stops."""

HEAD_TIMEOUT = 10.0
"""Seconds for the head of a request that asks the local API for a stream."""
WIDE_LEGS = 32
WIDE_LEG = 512 * 1024
"""So many connections of programs may move, and so hold, so much in a turn: 16 MiB in all."""
MAX_LOCAL_CONNECTIONS = 8_192
"""Connections of programs: twice the streams of a node, an eighth of the unit's descriptors."""
MAX_FORWARDED = 1_024
MAX_FORWARDED_ALL = 4_096
"""Connections of one forward, and of all: more streams than that no peer has, and no node."""
MAX_PROXIED = 4_096
"""Connections through the proxy, likewise."""
EARLY_BYTES = 64 * 1024
"""What a program may send before it has its stream; more waits in its socket."""
MAX_DIAL_TIMEOUT = 60.0
"""Seconds, as a program may ask for."""
MAX_ACCEPTING = 256
"""Connections that wait for streams to one service."""
MAX_OFFERS = 64
"""Streams to one service that wait for its program to come back."""
NAME_KEPT = 2.0
"""Seconds after which a service is free that no program waits for."""
HOLD_WINDOW = 10.0
HOLD_PATIENCE = 3.0
"""Seconds from the start in which streams and messages wait, and so long, for a program not back yet."""
