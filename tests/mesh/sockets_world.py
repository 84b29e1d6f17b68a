# SPDX-License-Identifier: MIT
"""Nodes without routing on real sockets, certificates for TLS around their links, and what saturates one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mesh.linkworld import World
from twisted.internet import reactor
from twisted.internet.task import deferLater

from gmesh.node.listening import mesh_server
from gmesh.wire.frames import Kind, pack_frame


async def until(condition, seconds=300.0):
    """Wait, turn by turn, for something to become true; the host may stand still meanwhile."""
    end = reactor.seconds() + seconds
    while not condition():
        assert reactor.seconds() < end, "it did not come about"
        await deferLater(reactor, 0.005)


class RealWorld(World):
    """Nodes on the reactor."""

    def __init__(self):
        super().__init__()
        self.clock = reactor
        self.start = 1_750_000_000 - reactor.seconds()
        self.ports = []
        self.before = set(reactor.getReaders())

    async def listen(self, node, endpoint):
        port = await endpoint.listen(node.mesh.accepting())
        self.ports.append(port)
        return port.getHost()

    async def finish(self):
        for node in self.nodes:
            node.stop()
        for port in self.ports:
            await port.stopListening()
        await until(lambda: not any(node.neighbours.sessions or node.gate.half_open for node in self.nodes))
        await until(lambda: self.before >= set(reactor.getReaders()) and not reactor.getWriters())


def tcp(text="tcp:0:interface=127.0.0.1"):
    """As a node listens: C{tls:}, and C{ws:} before what it serves WebSockets over."""
    return mesh_server(reactor, text)


class Writer:
    """Writes numbered frames whenever the link has room: a flow of this host, of which nothing is dropped."""

    def __init__(self, link, count):
        self.link, self.count, self.sent, self.paused = link, count, 0, False
        link.register_sender(b"f" * 16, self)

    def resumeProducing(self):
        self.paused = False
        while self.sent < self.count and not self.paused:
            frame = pack_frame(Kind.E2E_DATA, b"%06d" % self.sent + bytes(16_000))
            assert self.link.send_data(frame, b"f" * 16)
            self.sent += 1

    def pauseProducing(self):
        self.paused = True

    def stopProducing(self):
        pass


async def bulk(world, one, two, count=400):
    """Saturate the link with data, send control beside it, and see all of it arrive in order."""
    await until(lambda: one.link(two) and two.link(one))
    link = one.link(two)
    link.send_control(16, b"first")
    writer = Writer(link, count)
    writer.resumeProducing()
    assert writer.paused
    await until(lambda: writer.sent == count)
    link.send_control(16, b"last")
    await until(lambda: len(two.recorder.frames) == count + 2)
    data = [body[:6] for _, kind, body in two.recorder.frames if kind == 66]
    assert data == [b"%06d" % number for number in range(count)]
    assert two.recorder.frames[0][2] == b"first"
    assert link.backlog == 0


def _usage(authority):
    """A key that signs certificates, or one that serves."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """Signs certificates for TLS, and writes them where an endpoint string finds them."""

    def __init__(self, directory, name="Test Authority"):
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), [], 3650, True)
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject, public, hosts, days, authority):
        now = datetime.now(UTC)
        names = [
            x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            # What Python 3.13 asks of a chain (VERIFY_X509_STRICT, RFC 5280).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(_usage(authority), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def endpoint(self, *hosts, days=30, name="leaf", port=0, interface="127.0.0.1", curve=ec.SECP256R1):
        """A new certificate for these hosts. @return: the endpoint string that serves it, and itself."""
        key = ec.generate_private_key(curve())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), hosts, days, False)
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.directory / f"{name}.key").write_bytes(encoded)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (self.directory / f"{name}.pem").write_bytes(pem)
        files = f"privateKey={self.directory / name}.key:certKey={self.directory / name}.pem"
        return f"tls:{port}:{files}:interface={interface}", certificate
