# SPDX-License-Identifier: MIT
"""Every number of the routing layer under one name each; C{docs/protocol/routing.rst} lists them."""

from __future__ import annotations

from typing import Final

from gmesh.token_bucket import Rate

# -- the node record
RECORD_VERSION: Final = 1
MAX_RECORD: Final = 2048
HANDLE_SIZE: Final = 8
MAX_RECORD_LINKS: Final = 64
MAX_FRAGMENTS: Final = 64
"""Fragments of one node's record, numbered as those of an IS-IS LSP (ISO 10589)."""
MAX_SEQUENCE: Final = 2**64 - 2**32
MAX_SERIAL: Final = 2**53 - 1
MAX_COST: Final = 0xFFFF
MAX_ADDRESSES: Final = 4
MAX_ADDRESS: Final = 128
MAX_SERVICES: Final = 32
MAX_SERVICE: Final = 32
MAX_SOFTWARE: Final = 64
MAX_CAPABILITIES: Final = MAX_RECORD - 146 - 10 * MAX_RECORD_LINKS

# -- life of a record, seconds
LIFETIME: Final = 3600
"""As OSPF MaxAge, RFC 2328 appendix B."""
MAX_LIFETIME: Final = 7200
MAX_FUTURE: Final = 2700
"""A host without a clock of its own starts late by as long as it was off; it shall have routes at once."""
EXPIRY_GRACE: Final = 600
CERTIFICATE_GRACE: Final = 300
UNREACHABLE_DROP: Final = 3600
TOMBSTONE_LIFE: Final = 7200
REFRESH: Final = 1800
"""As OSPF LSRefreshTime, RFC 2328 appendix B."""
REFRESH_SPREAD: Final = 300

# -- bounds of the database
MAX_NODES: Final = 4096
ORIGIN_RATE: Final = 1.0
ORIGIN_BURST: Final = 5
NODE_RECORDS: Final = Rate(0.2, 40)
"""Records of one origin over all its fragments: in the long run 35 MB a day of the largest."""
ANCHOR_RECORDS: Final = Rate(0.5, 1024)
"""The same of an anchor, whose 64 fragments are signed some 6 times each while 4,096 links come up."""
MAX_PARKED_PER_SOURCE: Final = 256
PARK_LIFE: Final = 60.0

# -- origination, seconds: exponential back-off, as the LSP generation of IS-IS has it
FIRST_DELAY: Final = 0.010
SPACING_FIRST: Final = 0.250
SPACING_EVEN: Final = ORIGIN_BURST - 1
"""Intervals like the first: every node takes a burst from one origin, so it may be used to join a mesh."""
SPACING_MAX: Final = 10.0
SPACING_QUIET: Final = 30.0
OWN_RECORDS: Final = Rate(NODE_RECORDS.rate / 2, NODE_RECORDS.burst / 2)
"""What a node signs itself: half of what others take, so that a restart fits as well."""
OWN_ANCHOR_RECORDS: Final = Rate(ANCHOR_RECORDS.rate / 2, ANCHOR_RECORDS.burst / 2)
DOWN_BURST: Final = 5
DOWN_RATE: Final = 0.5
UP_STABLE: Final = 3.0
FLAP_MEMORY: Final = 60.0

# -- metric: cost from the round trip as in Babel (RFC 9616); bounds and weight are those of babeld
BASE_COST: Final = 96
RTT_PENALTY: Final = 150
RTT_MIN: Final = 0.010
RTT_MAX: Final = 0.120
RTT_STEPS: Final = 16
RTT_WEIGHT: Final = 42 / 256
HYSTERESIS: Final = 0.25
HYSTERESIS_HOLD: Final = 30.0
SUSPECT_FACTOR: Final = 4

# -- shortest paths, seconds: a short first delay, then spacing, as in RFC 8405
SPF_DELAY: Final = 0.010
SPF_SPACING: Final = 0.100
SPF_SPACING_MAX: Final = 2.0
SPF_RUNTIME_FACTOR: Final = 5
SPF_SECONDS_PER_EDGE: Final = 2e-6
DETOUR_RATE: Final = 20.0
DETOUR_BURST: Final = 20
DETOUR_CACHE: Final = 1.0
MAX_DETOURS: Final = 256
MAX_ALTERNATIVES: Final = 4
MAX_HOPS: Final = 32
HARD_MAX_HOPS: Final = 64
LOSS_PENALTY_FACTOR: Final = 16
"""A relay blamed once: a way of a dozen hops around it is cheaper than one of two through it."""
SUSPICION_FACTOR: Final = 256
"""A relay suspected now: any other way is tried first."""
MAX_SUSPECTS: Final = 256
SUSPICION_LIFE: Final = 20.0
"""A little more than the 15 s after which a silent link counts as dead."""
BLAME_LIFE: Final = 600.0
BLAME_LEVELS: Final = 2
"""Blamed so often, a relay is avoided whatever the way around it costs."""

# -- digest
BUCKETS: Final = 256
BUCKET_SIZE: Final = 8
DIGEST_SIZE: Final = BUCKETS * BUCKET_SIZE
HASH_PREFIX: Final = 4
