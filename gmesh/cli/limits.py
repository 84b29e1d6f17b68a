# SPDX-License-Identifier: MIT
"""Every limit of the command line: how long it waits, how much it reads."""

from __future__ import annotations

#: Seconds to reach a daemon at all.
CONNECT_TIMEOUT = 5.0
#: Seconds of silence after which an answer of the authority is given up.
AUTHORITY_TIMEOUT = 30.0
#: Seconds after which an anchor is dialled again before it is asked: a connection that joins ends after 30.
ANCHOR_LINK_SECONDS = 20.0
#: Questions that an anchor takes in one connection of a host that joins.
ANCHOR_QUESTIONS = 16
#: Seconds that a host may wait for a place with an anchor before it asks again.
ANCHOR_FULL_WAIT = 5
#: Seconds of silence after which an answer of the local node is given up.
NODE_TIMEOUT = 15.0
#: Seconds that one of several pings may take.
PING_TIMEOUT = 10.0
#: The largest answer read from a daemon; a CRL of 100,000 entries has 4 MiB.
MAX_ANSWER = 16 * 1024 * 1024
#: The longest line of a stream of messages.
MAX_LINE = 4 * 1024 * 1024
#: The largest message: what a node takes for one.
MAX_MESSAGE = 64 * 1024
#: The longest head of the answer that makes a connection a stream.
MAX_STREAM_HEAD = 16 * 1024
#: Seconds that a far node may take to accept a stream: what the local API waits.
DIAL_TIMEOUT = 30.0
#: The longest genesis chain a client walks.
MAX_GENESIS_VERSIONS = 1000
#: The most pages of one list of the authority.
MAX_PAGES = 10_000
#: Rows of each page after the first: the most the authority gives.
PAGE = 500
#: Seconds that a node may be given to acknowledge a message: what its local API takes.
MAX_SEND_TIMEOUT = 300.0
#: The most pings of one command.
MAX_PING_COUNT = 1000
#: How much longer than it was told to a command waits at most, as a part of that.
JITTER = 0.5
#: Unix seconds: 2025-01-01, before which there was no gmesh, and 2037-01-01, a year before 32 bits are full:
#: clocks without a battery begin at the one end, and broken ones stand at the other.
CLOCK_FROM, CLOCK_UNTIL = 1_735_689_600, 2_114_380_800
#: Seconds by which a clock is off before it is named as the reason of a refusal: a status lives as long.
CLOCK_DIFFERENCE = 86_400
#: Seconds within which a member was heard of lately: five of its heartbeats.
HEARD_LATELY = 300
#: Heartbeats with an older CRL after the new one is out; the first may have fetched it.
SUSPECT_HEARTBEATS = 2
