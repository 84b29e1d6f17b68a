# SPDX-License-Identifier: MIT
"""All message bodies under one name; each L{encode} and L{decode} raises L{FrameRefused} and nothing else."""

from __future__ import annotations

from gmesh.wire.datagram_messages import (
    DATAGRAM_HEAD,
    Datagram,
    DatagramTemplate,
    EchoMessage,
    Outcome,
    Receipt,
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
from gmesh.wire.session_messages import E2eInit, E2eResponse, Inner, Mark, iter_inner

__all__ = [
    "BOOT_ID",
    "DATAGRAM_HEAD",
    "DIGEST_SIZE",
    "NO_DIGEST",
    "NO_HANDLE",
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
    "Hello",
    "Ihave",
    "Inner",
    "Lsa",
    "Mark",
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
    "check_service",
    "decode_rekey",
    "iter_inner",
]
