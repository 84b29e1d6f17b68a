# SPDX-License-Identifier: MIT
"""Every number the authority is bounded by, with its unit in the name or the comment."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_JOIN_REQUEST

# Receiving requests.
BODY_BYTES = 4 * 1024  # of a request; what carries a document has its size and some more
BODY_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "POST /join": MAX_JOIN_REQUEST,
        "POST /renew": 2 * DOCUMENT_LIMITS["certificate"],
        "POST /heartbeat": 32 * 1024,  # a certificate and receipts: what an anchor passes on
        "POST /admin/commands": DOCUMENT_LIMITS["command"] + 1024,
        "POST /admin/policies": DOCUMENT_LIMITS["policy"],
        "POST /admin/admissions": 64 * 1024,
        "POST /admin/genesis": DOCUMENT_LIMITS["genesis"] + 1024,
    }
)
ADMISSIONS_AT_ONCE = 32  # of 2 KiB at most each: as many as a body holds
STRANGER_BODY_BYTES = 2 * 1024  # parsed for a key that no member has yet
RECEIVE_SECONDS = 10  # from connection made, or the previous answer, to the whole request
ANSWER_SECONDS = 30
SEND_BYTES_A_SECOND = 8192  # what a line carries at least: a long CRL has as much time more to get through
SEND_PIECE_BYTES = 64 * 1024  # a transport of Twisted takes as much before it wants no more
CONNECTIONS_PER_ADDRESS = 64
DRAIN_SECONDS_MAX = 600  # what a stop may be put off, so that balancers notice
LONG_POLLS = 1000  # of members
STRANGER_POLLS = 256
STRANGER_POLLS_AN_ADDRESS = 16
STRANGERS_A_TURN = 8  # answered between two turns of the reactor: some 2 ms
LONG_POLL_SECONDS = 25
ADDRESSES_REMEMBERED = 65_536  # token buckets, least recently used first out
KEYS_REMEMBERED = 65_536

# Signed requests.
REQUEST_WINDOW_SECONDS = 120
NONCE_KEPT_SECONDS = 2 * REQUEST_WINDOW_SECONDS
CLOCK_BACKSTEP_SECONDS = 120
CLOCK_DIFFERENCE_SECONDS = 10  # between a daemon and its database
CLOCK_JUMP_SECONDS = 86_400  # above the newest time seen, that a start takes without being told
CLOCK_SETTLE_SECONDS = 3600  # after a jump inside the process, until the new time counts

COLLECTOR_THRESHOLDS = (20_000, 20, 20)  # new objects, and collections of the younger generation

# Durable state.
GROUP_REQUESTS = 64  # decisions in one commit
WRITE_QUEUE_REQUESTS = 2048
DATABASE_WAIT_SECONDS = 20  # that a decision waits for a database that is away, and that one may take
RETRY_SECONDS_MIN = 0.1  # until a database that is away is tried again; twice as long each time
RETRY_SECONDS_MAX = 1.0  # so that a decision comes within two of a promotion, however long it took
LOG_CHECK_SECONDS = 5
LOG_BYTES_KEPT = 16 << 20  # of a log that was taken up, for the next one
LOG_BYTES_TOLD = 64 << 20  # of a log that another program keeps from being taken up
LOG_BYTES_MAX = 1 << 30
PRUNE_SECONDS = 30
PRUNE_ROWS = 5000
PRESENCE_FLUSH_SECONDS = 30
SHOWN_KEPT_SECONDS = 1  # between two looks whether documents changed, which are kept as files
PRESENCE_NEWS_SECONDS = 1  # until changed numbers of a node are written
PRESENCE_KEPT_SECONDS = 30 * 86_400  # of a node that is no member any more
PRESENCE_FORGET_SECONDS = 3600  # between two looks for those
PAGE_ROWS = 100
COMMANDS_PAGE = 32  # of 16 KiB at most
PAGE_ROWS_MAX = 500

# Several daemons of one database.
FOLLOW_SECONDS = 0.25  # between two looks for what others did
FOLLOW_ROWS = 5000  # of the audit in one look, so that it takes no long time
LOOK_SECONDS = 1  # that a document waits for a look; then it is served as it is held
FOLLOW_STALE_SECONDS = 5  # without a look that was taken over whole, until clients are sent elsewhere
STEP_IN_SECONDS = 1.8  # until a CRL or status is made for who did not: with spread and two looks, within 3 s
STEP_IN_SPREAD = 0.4
REPLICA_REPORT_SECONDS = 10  # between two reports of a daemon of itself
REPLICA_LIVE_SECONDS = 30  # after the last one, until it counts as gone
REPLICA_KEPT_SECONDS = 86_400  # and until it is forgotten

# Documents.
CERTIFICATE_SECONDS_MIN = 600
RENEWAL_FRESH = 4  # a certificate in the first quarter of its life is not replaced without need
# Certificates a node gets within an hour of another in that quarter, for a new Noise key.
RENEWALS_AN_HOUR = 4
LIVE_CERTIFICATES = 8  # of a node, ended by none: as many again as renewal at half life with a new key leaves
INVITE_SECONDS = 3600
INVITE_SECONDS_MAX = 7 * 86_400
INVITE_SECONDS_MAX_APPROVED = 366 * 86_400
JOIN_RETRY_SECONDS = 3600
"""How long after an invite's end, or its use if that was later, the same join gets the same certificate."""
STATUS_SECONDS = 3600
STATUS_SPACING_SECONDS = 0.9  # a change is in a status within a second, also right after another
STATUS_MAX_AGE_SECONDS = 60
STATUS_AUDIT_SECONDS = 45  # and at the next look, ten seconds apart: rows are in a status within a minute
STATUSES_REMEMBERED = 1024
CRL_SECONDS = 7 * 86_400
CRL_RETRY_SECONDS = 60  # after a CRL that could not be made
DELTAS_KEPT = (
    16  # to the CRL in force, from each of so many numbers before it; each is below half of its size
)
COMMAND_SECONDS_MAX = 7 * 86_400

REFUSAL_ROW_SECONDS = 60  # between two audit rows about what one operator was refused

# What heartbeats report.
RECEIPTS = 16  # of what became of commands, as nodes send them
FAULTS = 32  # words of one node
BOOTS_REMEMBERED = 4  # runs of a node's daemon, of which two that take turns are two hosts
TWIN_SECONDS = 600  # how long after their last turn they are named

# Approvals.
APPROVAL_SECONDS = 86_400
PROPOSALS_A_KEY = 8  # that wait; each may be as long as a policy
APPROVALS_FILE_BYTES = 64 * 1024
REASON_CHARACTERS = 200
