# SPDX-License-Identifier: MIT
"""
All message bodies under one name; each L{encode} and L{decode} raises L{FrameRefused} and nothing else.

Those of streams are apart, in L{gmesh.wire.stream_messages}: a node without streams does not load them.
"""

from __future__ import annotations

from gmesh.wire.datagram_messages import (
    DATAGRAM_HEAD,
    FLAG_OUTCOME,
    Datagram,
    DatagramTemplate,
    EchoMessage,
    MessageNumbers,
    MessageOutcome,
    Outcome,
    Receipt,
    check_key,
    check_service,
)
from gmesh.wire.document_messages import (
    NO_DIGEST,
    CertAnswer,
    CertificateKey,
    CertRequest,
    CommandRequest,
    DocumentAssembler,
    DocumentPush,
    DocumentRequest,
)
from gmesh.wire.flood_messages import (
    Ihave,
    Lsa,
    RecordKey,
    RecordNumber,
    RecordSummary,
    SyncDigest,
    SyncList,
    SyncWant,
)
from gmesh.wire.link_messages import BOOT_ID, DIGEST_SIZE, Close, CloseReason, Hello, Ping, Pong, decode_rekey
from gmesh.wire.path_messages import NO_HANDLE, Dropped, PathReply, PathRequest, Unreach
from gmesh.wire.session_messages import (
    FIRST_STREAM_KIND,
    LAST_STREAM_KIND,
    SEEN_KIND,
    E2eInit,
    E2eResponse,
    EndParameters,
    Feature,
    Inner,
    Mark,
    iter_inner,
)

__all__ = [
    "BOOT_ID",
    "DATAGRAM_HEAD",
    "FLAG_OUTCOME",
    "DIGEST_SIZE",
    "FIRST_STREAM_KIND",
    "LAST_STREAM_KIND",
    "NO_DIGEST",
    "NO_HANDLE",
    "SEEN_KIND",
    "CertAnswer",
    "CertRequest",
    "CertificateKey",
    "Close",
    "CloseReason",
    "CommandRequest",
    "Datagram",
    "DatagramTemplate",
    "DocumentAssembler",
    "DocumentPush",
    "DocumentRequest",
    "Dropped",
    "E2eInit",
    "E2eResponse",
    "EchoMessage",
    "EndParameters",
    "MessageOutcome",
    "Feature",
    "Hello",
    "Ihave",
    "Inner",
    "Lsa",
    "Mark",
    "MessageNumbers",
    "Outcome",
    "PathReply",
    "PathRequest",
    "Ping",
    "Pong",
    "Receipt",
    "RecordKey",
    "RecordNumber",
    "RecordSummary",
    "SyncDigest",
    "SyncList",
    "SyncWant",
    "Unreach",
    "check_key",
    "check_service",
    "decode_rekey",
    "iter_inner",
]
