# SPDX-License-Identifier: MIT
"""
What this node is and believes, and that both outlive a power cut.

L{LocalMember.persist} is the first thing to happen when a document changed, so that floors and document are
on disk before anybody acts on them; a full disk is logged and never keeps a revocation from cutting.
Tests: C{tests/node/test_local_member.py}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.errors import ConfigurationError, DocumentRefused, PeerRefused, StoreError
from gmesh.interfaces import ISigner
from gmesh.mesh.peer_identity import Peer, peer_of
from gmesh.node.alarms import Alarms
from gmesh.node.anchor_order import anchors_first
from gmesh.node.doubted_time import MAX_TIME_STEP, DoubtedTime
from gmesh.node.identity_store import Identity, NodeStore
from gmesh.node.noise_keys import NoiseKeys
from gmesh.node.state_writer import StateWriter
from gmesh.trust.authority_answers import known_urls, spread_urls
from gmesh.trust.documents import Anchor, Certificate, Document, Status
from gmesh.trust.floors import Floors
from gmesh.trust.keys import NoiseKey
from gmesh.trust.limits import EPOCH
from gmesh.trust.names import human_error
from gmesh.trust.state import TrustState

__all__ = ["LocalMember"]

_TIME_SHIFT = 20
"""Sequences are Unix seconds times 2^20 and rise from there, so that lost state rarely matters."""


class LocalMember:
    """
    The node's own certificate and the documents it believes.

    @ivar trust: what this host believes.
    @ivar certificate: the one in use.
    @ivar peer: what it says, as of any other node.
    @ivar alarms: what the authority's documents contradicted.
    @ivar own_urls: of the authority, as this host was given them.
    @param trust_changed: called with the kind of a document that changed; L{persist} comes first in it,
        and is all of it where nothing else acts on it.
    @param certificate_changed: called after another certificate came into use, with True if its Noise key
        is another one.
    @param synchronised: whether the system's clock is known to be right.
    """

    _log = Logger()

    def __init__(
        self,
        identity: Identity,
        store: NodeStore,
        clock: IReactorTime,
        wall: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
        trust_changed: Callable[[str], object] | None = None,
        certificate_changed: Callable[[bool], object] = lambda rekeyed: None,
        synchronised: Callable[[], bool] = lambda: False,
    ) -> None:
        self.node_key = identity.node_key
        self._noise = NoiseKeys(identity, store, entropy)
        self.certificate = identity.certificate
        self.peer: Peer = peer_of(identity.certificate)
        self.state = identity.state
        self.own_urls = identity.own_urls
        self._trust_changed = trust_changed or self.persist
        self._certificate_changed = certificate_changed
        self._store = store
        self._clock = clock
        self._system_wall = wall
        self._floor_at = clock.seconds()
        self._writer = StateWriter(store, clock, identity.state)
        self.state.time_floor = self.state.time_floor or identity.certificate.body.issued_at
        self._heard_status = self._time_agreed = False
        self._synchronised = synchronised
        self._doubt: DoubtedTime | None = None
        self._loaded = False
        self.alarms = Alarms(self.state.alarms, self.wall, self.save_soon)
        self.trust = self._believe(identity)
        self._loaded = True
        self._look_at_own_certificate()

    def persist(self, kind: str) -> None:
        """The document of this kind changed: floors, document and the time it proves go to disk."""
        document = getattr(self.trust, kind)
        if kind == "status" and document is not None:
            self._take_time(document.body)
            self._heard_status = True
            self.alarms.settle(document.body.number // EPOCH)
        self._writer.document(kind, self.trust)
        if kind == "crl":
            self._look_at_own_certificate()

    def wall(self) -> float:
        """
        Unix seconds: not before the newest status was issued, nor slower than the monotonic clock since.

        So a host without a battery, or one whose clock is set back, lives on in the present.
        """
        own = max(self._system_wall(), self.state.time_floor + self._clock.seconds() - self._floor_at)
        return self._doubt.settled(own) if self._doubt is not None else own

    def clock_behind(self) -> float:
        """Seconds by which the system's clock is certainly late; 0 if it may be right."""
        return max(0.0, self.wall() - self._system_wall())

    def time_agreed(self) -> None:
        """The authority took a request that was signed by the time here."""
        self._time_agreed = True

    def standing(self) -> str:
        """What the own certificate is worth, as far as is known here: C{valid}, C{revoked} or C{expired}."""
        if self.trust.revoked(self.peer.serial, self.peer.node_id):
            return "revoked"
        return "valid" if self.wall() <= self.peer.not_after else "expired"

    @property
    def name(self) -> str:
        """The certified name."""
        return self.peer.name

    @property
    def handle(self) -> bytes:
        """The routing handle."""
        return self.peer.handle

    @property
    def roles(self) -> tuple[str, ...]:
        """The certified roles."""
        return tuple(self.peer.roles)

    @property
    def network_id(self) -> str:
        """The network this node is a member of."""
        return self.trust.network_id

    @property
    def signer(self) -> ISigner:
        """The identity key."""
        return self.node_key

    @property
    def noise_key(self) -> NoiseKey:
        """The Noise key that the certificate names."""
        return self._noise.current

    @property
    def noise_keys(self) -> tuple[NoiseKey, ...]:
        """That one, and older ones that a certificate of ours still names."""
        return self._noise.usable()

    def noise_to_certify(self) -> bytes:
        """
        The public Noise key for the next certificate, a new one now and then.

        @raise StoreError: if a new one cannot be written.
        """
        return self._noise.to_certify(self.wall())

    def numbers(self) -> dict[str, int]:
        """Versions and numbers of the documents applied, 0 where there is none."""
        trust = self.trust
        return {
            "genesis": trust.genesis.body.version,
            "policy": trust.policy.body.version if trust.policy is not None else 0,
            "crl": trust.crl.body.number if trust.crl is not None else 0,
            "status": trust.status.body.number if trust.status is not None else 0,
        }

    def adopt_certificate(self, document: Document[Certificate]) -> None:
        """
        Persist a renewed certificate, then use it.

        @raise StoreError: if it cannot be written; the old one stays in use.
        @raise DocumentRefused: if it names a Noise key that is not ours.
        """
        self._noise.find(document.body)
        self._store.save_document(document)
        old, self.certificate = self.certificate, document
        self.peer = peer_of(document)
        self._time_is_at_least(document.body.issued_at)
        rekeyed = False
        try:
            rekeyed = self._noise.certified(document.body, old.body, self.wall())
        except StoreError as error:
            self._log.error("an old Noise key stays on disk: {cause}", cause=error.detail)
        self.save_soon()
        self._certificate_changed(rekeyed)

    def follow_certificate(self, document: Document[Certificate]) -> None:
        """
        Use the certificate that lies in the state directory, if C{gmesh join} has put a newer one there.

        @raise ConfigurationError: C{restart}, if it makes another node of this one.
        @raise PeerRefused: if it is not valid.
        @raise StoreError: if it cannot be written.
        """
        new, held = document.body, self.certificate.body
        if new.serial <= held.serial:
            return
        try:
            self._noise.find(new)
            same = (new.name, new.roles, new.node_key) == (held.name, held.roles, held.node_key)
        except DocumentRefused:
            same = False
        if not same:
            raise ConfigurationError(
                "restart",
                f"certificate {new.serial} for {new.name} ({', '.join(new.roles)}) takes a restart",
            )
        self.trust.judge_certificate(document, self.wall())
        self.adopt_certificate(document)

    def next_handshake_number(self) -> int:
        """A number above all this node ever used for end-to-end handshakes."""
        self.state.handshake_number = max(self.state.handshake_number + 1, int(self.wall()) << _TIME_SHIFT)
        self.save_soon()
        return self.state.handshake_number

    def record_sequence_used(self, sequence: int) -> None:
        """The sequence of our newest node record, to begin above it after a restart."""
        if sequence > self.state.record_sequence:
            self.state.record_sequence = sequence
            self.save_soon()

    def set_bootstrap(self, anchors: Sequence[Anchor]) -> None:
        """Dial these until a newer genesis names others. @raise StoreError: if that cannot be kept."""
        listed = msgspec.to_builtins(list(anchors))
        self.state.bootstrap = {"genesis": self.trust.genesis.body.version, "anchors": listed}
        self.save_now()

    def anchors(self) -> tuple[Anchor, ...]:
        """The anchors of the newest genesis, or those a command named under it."""
        return self._anchors()[0]

    def anchors_behind(self) -> tuple[Anchor, ...]:
        """The anchors of the newest genesis that those of a command stand before."""
        return self._anchors()[1]

    def _anchors(self) -> tuple[tuple[Anchor, ...], tuple[Anchor, ...]]:
        try:
            return anchors_first(self.state.bootstrap, self.trust.genesis.body)
        except msgspec.ValidationError as error:
            self._log.warn("the anchors in state.json cannot be used: {cause}", cause=human_error(error))
            return self.trust.genesis.body.anchors, ()

    def authority_urls(self) -> tuple[str, ...]:
        """Where the authority is, as the newest genesis and this host's own file say, in its order."""
        chain = self.trust.genesis_chain
        return spread_urls(known_urls(self.own_urls, chain), chain, self.peer.node_id)

    def save_soon(self) -> None:
        """Write C{state.json} within some seconds."""
        self._writer.soon()

    def save_now(self) -> None:
        """Write C{state.json}. @raise StoreError: if that fails."""
        self._writer.now()

    def stop(self) -> None:
        """Write what is not on disk yet."""
        self._writer.stop()

    def _believe(self, identity: Identity) -> TrustState:
        try:
            trust = self._trust_state(identity)
        except DocumentRefused as error:
            raise ConfigurationError(
                "damaged-state",
                f"the stored genesis cannot be believed: {error.detail}: restore genesis.json from a backup "
                "or another node of this network",
            ) from error
        for document in identity.documents:
            try:
                trust.offer(document, self.wall())
            except DocumentRefused as error:
                self._log.warn(
                    "the stored {kind} is not believed and is fetched again: {cause}",
                    kind=document.type,
                    cause=error.detail,
                )
        if trust.status is not None:
            if trust.time_floor == self.state.doubted_time:
                self._doubt = DoubtedTime(trust.time_floor, self._clock.seconds)
            else:
                self.state.time_floor = trust.time_floor
        return trust

    def _trust_state(self, identity: Identity) -> TrustState:
        try:
            floors = Floors.from_dict(identity.floors)
        except DocumentRefused as error:
            self._log.warn("floors.json cannot be used and starts empty: {cause}", cause=error.detail)
            floors = Floors()
        return TrustState(
            identity.network_id,
            identity.genesis_chain,
            floors,
            changed=self._changed,
            alarm=self._alarmed,
            dated=self._may_be,
        )

    def _look_at_own_certificate(self) -> None:
        try:
            self.trust.judge_certificate(self.certificate, self.wall())
        except PeerRefused as error:
            self._log.warn(
                "this node's own certificate is no good now, others will refuse it: {cause}",
                cause=error.detail,
            )

    def _changed(self, kind: str) -> None:
        if self._loaded:  # what was stored is not news
            self._trust_changed(kind)

    def _may_be(self, time: int) -> bool:
        """
        Whether to take C{time}, at which the authority signed something, for now.

        A status outdoes it: once one has come since the start, only times within its life are believed.
        """
        status = self.trust.status
        if self._heard_status and (status is None or time > status.body.expires_at):
            return False
        if self._knows_time() and time > self.wall() + MAX_TIME_STEP:
            return False
        self._time_is_at_least(time)
        return True

    def _knows_time(self) -> bool:
        """Whether this host has a time of its own, from others or by a synchronised clock."""
        return self._heard_status or self._time_agreed or self._synchronised()

    def _take_time(self, status: Status) -> None:
        """
        It is the time at which the newest status was signed, unless that moves it by hours.

        One clock that is wrong is not everybody's clock at once: what it signed is in force, and its time
        counts only if no status takes it back for a while.
        """
        time, own = status.issued_at, self.wall()
        if self._knows_time() and time > own + MAX_TIME_STEP:
            self._doubt = DoubtedTime(time, self._clock.seconds)
            self.state.doubted_time = time
            detail = f"status {status.number} is dated {time - own:.0f} s ahead of the time here"
            self.alarms.raised("time-jump", detail, status.number // EPOCH)
            self.save_soon()
            return
        self._doubt, self.state.doubted_time = None, 0
        self.alarms.over("time-jump")
        self._set_floor(time)

    def _time_is_at_least(self, time: int) -> None:
        if time > self.wall():
            self._set_floor(time)

    def _set_floor(self, time: int) -> None:
        self.state.time_floor, self._floor_at = time, self._clock.seconds()
        self.save_soon()

    def _alarmed(self, slug: str, detail: str) -> None:
        status = self.trust.status if self._loaded else None
        self.alarms.raised(slug, detail, 0 if status is None else status.body.number // EPOCH)
