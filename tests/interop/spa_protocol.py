"""The protocol of docs/protocol.md, sections 1 to 6, client and server.

Written from that page alone, to show that it can be. It is no library to use:
nothing here is constant-time, and a server forgets everything with its object.
"""

import hashlib
import hmac as hmac_module
import ipaddress
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LENGTH = 336
BODY = 160
EPOCH_MS = 21_600_000
TOLERANCE_MS = 30_000
CLIENT_BUDGET = 20
GLOBAL_BUDGET = 20_000


class Refused(Exception):
    """The reason is the first argument."""


class Contradiction(Exception):
    """A request that has no canonical encoding."""


# Primitives (section 1).


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def hmac(key: bytes, message: bytes) -> bytes:
    return hmac_module.new(key, message, hashlib.sha256).digest()


def extract(salt: bytes, secret: bytes) -> bytes:
    return hmac(salt, secret)


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    out, block = b"", b""
    while len(out) < length:
        block = hmac(prk, block + info + bytes([len(out) // 32 + 1]))
        out += block
    return out[:length]


def siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 as a number."""
    mask = (1 << 64) - 1
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]

    def rotate(value: int, by: int) -> int:
        return (value << by | value >> (64 - by)) & mask

    def round_() -> None:
        v[0] = (v[0] + v[1]) & mask
        v[1] = rotate(v[1], 13) ^ v[0]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[3]) & mask
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & mask
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & mask
        v[1] = rotate(v[1], 17) ^ v[2]
        v[2] = rotate(v[2], 32)

    full = len(message) // 8 * 8
    last = message[full:] + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for at in range(0, full + 8, 8):
        word = int.from_bytes((message[:full] + last)[at : at + 8], "little")
        v[3] ^= word
        round_()
        round_()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        round_()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def agree(private: bytes, public: bytes) -> bytes | None:
    """X25519; None where the result is all zero."""
    key = x25519.X25519PrivateKey.from_private_bytes(private)
    try:
        shared = key.exchange(x25519.X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return None
    return shared if any(shared) else None


def x25519_public(private: bytes) -> bytes:
    public = x25519.X25519PrivateKey.from_private_bytes(private).public_key()
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def ed25519_public(seed: bytes) -> bytes:
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


# Keys (section 3).

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
SMALL_ORDER_Y = {
    0,
    1,
    P - 1,
    int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    ),
    int.from_bytes(
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
    ),
}


def usable(key: bytes) -> bool:
    """Section 3.3: a canonical encoding of a point of large order."""
    number = int.from_bytes(key, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    if y >= P or y in SMALL_ORDER_Y:
        return False
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return sign == 0
    return pow(square, (P - 1) // 2, P) == 1


def signature_holds(key: bytes, message: bytes, signature: bytes) -> bool:
    """Strictly: R may not be of small order; OpenSSL sees to the rest."""
    if not usable(key) or not usable(signature[:32]):
        return False
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


# The body (section 5.3).

SERVICE = re.compile(rb"[a-z][a-z0-9-]{0,15}|(tcp|udp)/([1-9][0-9]{0,4})")
MODES = ["default", "window", "once", "bound"]


@dataclass
class Request:
    """What is asked for, in the words of section 14."""

    kind: str = "knock"
    mode: str = "default"
    address: str = "seen"
    width: int = 0
    seconds: int = 0
    services: list[str] = field(default_factory=list)

    def encode(self) -> bytes:
        mode, port = self._mode()
        kind, family, prefix_length, address = self._address()
        key, secret = self._enrolment()
        body = b"".join(
            [
                bytes([1, self.kind != "knock", mode, kind, family, prefix_length]),
                port.to_bytes(2, "big"),
                self.seconds.to_bytes(4, "big"),
                address.ljust(16, b"\0"),
                self._services().ljust(64, b"\0"),
                key,
                secret,
                bytes([self.width, 0, 0, 0]),
            ]
        )
        check_body(body)
        return body

    def _mode(self) -> tuple[int, int]:
        word, _, port = self.mode.partition(" ")
        return MODES.index(word), int(port or 0)

    def _address(self) -> tuple[int, int, int, bytes]:
        if self.address == "seen":
            return 0, 0, 0, b""
        word, _, prefix = self.address.rpartition(" ")
        if word == "seen":
            network = ipaddress.ip_network(prefix)
            return 0, network.version, network.prefixlen, network.network_address.packed
        address = ipaddress.ip_address(self.address)
        return 1, address.version, 0, address.packed

    def _services(self) -> bytes:
        slots = sorted({name.encode().ljust(16, b"\0") for name in self.services})
        return b"".join(slots)

    def _enrolment(self) -> tuple[bytes, bytes]:
        if self.kind == "knock":
            return bytes(32), bytes(32)
        _, key, secret = self.kind.split()
        return bytes.fromhex(key), bytes.fromhex(secret)


def check_body(body: bytes) -> None:
    """Every rule of section 5.3, field by field."""
    version, kind, mode, address_kind, family, prefix_length = body[:6]
    width, enrolment = body[156], body[92:156]
    require(len(body) == BODY and version == 1 and not any(body[157:]))
    require(kind == 1 and usable(enrolment[:32]) or kind == 0 and not any(enrolment))
    require(mode <= 3 and (mode == 3) == any(body[6:8]))
    check_address(address_kind, family, prefix_length, body[12:28], width)
    check_services([body[at : at + 16] for at in range(28, 92, 16)])


def check_address(kind: int, family: int, prefix_length: int, field_: bytes, width: int) -> None:
    if family == 0:
        require(kind == 0 and prefix_length == 0 and not any(field_) and width < 128)
        return
    bits = {4: 32, 6: 128}.get(family, 0)
    require(bits != 0 and kind <= 1 and width < bits and not any(field_[bits // 8 :]))
    address = int.from_bytes(field_[: bits // 8], "big")
    if kind == 0:
        require(prefix_length <= bits and address % (1 << bits - prefix_length) == 0)
    else:
        require(prefix_length == 0 and (width == 0 or address % (1 << bits - width) == 0))


def check_services(slots: list[bytes]) -> None:
    filled = [slot for slot in slots if any(slot)]
    require(filled and slots[: len(filled)] == filled)
    require(all(earlier < later for earlier, later in zip(filled, filled[1:])))
    for slot in filled:
        text = slot.rstrip(b"\0")
        match = SERVICE.fullmatch(text)
        require(match is not None)
        require(match[2] is None or int(match[2]) <= 65535)


def require(holds: object) -> None:
    if not holds:
        raise Contradiction


# The key schedule (section 5.1).


@dataclass
class Keys:
    prk: bytes
    id: bytes
    mac: bytes
    hdr: bytes
    dh: bytes

    @classmethod
    def derive(cls, psk: bytes, server: bytes, kid: bytes) -> "Keys":
        prk = extract(b"spa1 psk", psk)
        labels = [b"spa1 id\0", b"spa1 mac\0", b"spa1 hdr\0", b"spa1 dh\0"]
        return cls(prk, *(expand(prk, label + server + kid, 32) for label in labels))

    def pid(self, epoch: int) -> bytes:
        return hmac(self.id, u64(epoch))[:8]

    def stream(self, nonce: bytes) -> bytes:
        return expand(self.hdr, b"spa1 stream\0" + nonce, 40)

    def aead_key(self, shared: bytes, transcript: bytes) -> bytes:
        return expand(extract(self.dh, shared), b"spa1 aead\0" + transcript, 32)


def make_transcript(server: bytes, kid: bytes, nonce: bytes, ts: int, ephemeral: bytes) -> bytes:
    return b"spa1" + server + kid + nonce + u64(ts) + ephemeral


def to_sign(transcript: bytes, body: bytes) -> bytes:
    return b"spa1 knock\0" + transcript + body


# The client (section 5.2).


@dataclass
class Client:
    server: bytes
    cloak: bytes
    kid: bytes
    psk: bytes
    seed: bytes

    def seal(self, body: bytes, ts: int, randomness: bytes) -> dict[str, object]:
        """All the values of section 14, the datagram among them."""
        keys = Keys.derive(self.psk, self.server, self.kid)
        nonce = hmac(self.seed, b"spa1 nonce\0" + randomness + u64(ts) + body)[:16]
        e = hmac(self.seed, b"spa1 ephemeral\0" + randomness + u64(ts) + body)
        ephemeral = x25519_public(e)
        transcript = make_transcript(self.server, self.kid, nonce, ts, ephemeral)
        dh = agree(e, self.server)
        if dh is None:
            raise Contradiction("the server's key is not genuine")
        key = keys.aead_key(dh, transcript)
        signing = ed25519.Ed25519PrivateKey.from_private_bytes(self.seed)
        sig = signing.sign(to_sign(transcript, body))
        sealed = ChaCha20Poly1305(key).encrypt(bytes(12), body + sig, transcript)
        epoch = ts // EPOCH_MS
        pid, veil, stream = keys.pid(epoch), u64(siphash(self.cloak, nonce)), keys.stream(nonce)
        covered = nonce + xor(pid, veil) + xor(u64(ts) + ephemeral, stream) + sealed
        return {
            "body": body, "prk": keys.prk, "k-id": keys.id, "k-mac": keys.mac, "k-hdr": keys.hdr,
            "k-dh": keys.dh, "epoch": epoch, "pid": pid, "siphash": veil, "nonce": nonce, "e": e,
            "E": ephemeral, "T": transcript, "dh": dh, "k": key, "sig": sig, "stream": stream,
            "datagram": covered + hmac(keys.mac, covered),
        }  # fmt: skip


# The server (section 6).


@dataclass
class Member:
    """A client as the gate sees it."""

    kid: bytes
    keys: Keys
    budget: int
    floor: int = 0
    attempted: set[bytes] = field(default_factory=set)


@dataclass
class Signed:
    """What passes from the gate to the warden."""

    kid: bytes
    nonce: bytes
    ts: int
    ephemeral: bytes
    body: bytes
    signature: bytes


@dataclass
class Server:
    secret: bytes
    cloak: bytes
    tolerance: int = TOLERANCE_MS
    global_budget: int = GLOBAL_BUDGET
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.public = x25519_public(self.secret)

    def add(self, kid: bytes, psk: bytes, budget: int = CLIENT_BUDGET) -> None:
        self.members.append(Member(kid, Keys.derive(psk, self.public, kid), budget))

    def gate(self, datagram: bytes, source: str, destination: str, now: int) -> Signed:
        """Steps 1 to 8, all at one moment of the monotonic clock."""
        refuse(len(datagram) != LENGTH, "length")
        refuse(not answerable(source, destination), "addressing")
        member, epoch = self._look_up(datagram, now)
        refuse(hmac(member.keys.mac, datagram[:304]) != datagram[304:], "bad-tag")
        nonce = datagram[:16]
        header = xor(datagram[24:64], member.keys.stream(nonce))
        ts, ephemeral = int.from_bytes(header[:8], "big"), header[8:]
        refuse(ts // EPOCH_MS != epoch, "epoch-mismatch")
        refuse(abs(ts - now) > self.tolerance, "stale")
        refuse(nonce in member.attempted or ts <= member.floor, "duplicate")
        self._charge(member)
        member.attempted.add(nonce)
        body, signature = self._unseal(datagram, member, nonce, ts, ephemeral)
        refuse(not canonical(body), "not-canonical")
        return Signed(member.kid, nonce, ts, ephemeral, body, signature)

    def _look_up(self, datagram: bytes, now: int) -> tuple[Member, int]:
        pid = xor(datagram[16:24], u64(siphash(self.cloak, datagram[:16])))
        current = now // EPOCH_MS
        for epoch in range(max(current - 1, 0), current + 2):
            for member in self.members:
                if member.keys.pid(epoch) == pid:
                    return member, epoch
        raise Refused("unknown-client")

    def _charge(self, member: Member) -> None:
        refuse(member.budget < 1, "over-budget")
        refuse(self.global_budget < 1, "over-cap")
        member.budget -= 1
        self.global_budget -= 1

    def _unseal(
        self, datagram: bytes, member: Member, nonce: bytes, ts: int, ephemeral: bytes
    ) -> tuple[bytes, bytes]:
        shared = agree(self.secret, ephemeral)
        refuse(shared is None, "bad-ephemeral")
        transcript = make_transcript(self.public, member.kid, nonce, ts, ephemeral)
        cipher = ChaCha20Poly1305(member.keys.aead_key(shared, transcript))
        try:
            text = cipher.decrypt(bytes(12), datagram[64:304], transcript)
        except InvalidTag:
            raise Refused("bad-seal") from None
        return text[:BODY], text[BODY:]

    def warden(self, signed: Signed, record: list[str], now: int) -> bytes | None:
        """Steps 4, 8 and 9; the key that the knock enrols, if it does."""
        refuse(abs(signed.ts - now) > self.tolerance, "stale")
        refuse(not canonical(signed.body), "not-canonical")
        bound = bytes.fromhex(record[1]) if record[0] == "key" else None
        enrols, shown_key = signed.body[1] == 1, signed.body[92:124]
        refuse(bound is None and not enrols, "not-enrolled")
        refuse(bound is not None and enrols and shown_key != bound, "enrol-taken")
        transcript = make_transcript(
            self.public, signed.kid, signed.nonce, signed.ts, signed.ephemeral
        )
        key = bound or shown_key
        message = to_sign(transcript, signed.body)
        refuse(not signature_holds(key, message, signed.signature), "bad-signature")
        if bound is not None:
            return None
        shown = hashlib.sha256(b"spa1 enrol\0" + signed.body[124:156]).hexdigest()
        refuse(shown != record[1], "bad-enrol-secret")
        refuse(now > int(record[2]), "enrol-expired")
        return shown_key


def refuse(when: bool, reason: str) -> None:
    if when:
        raise Refused(reason)


def canonical(body: bytes) -> bool:
    try:
        check_body(body)
    except Contradiction:
        return False
    return True


def answerable(source: str, destination: str) -> bool:
    """Step 1, as far as it does not need to know the host."""
    of, to = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    mapped = of.version == 6 and of.ipv4_mapped is not None
    broadcast = of.version == 4 and of.packed == b"\xff" * 4
    odd = of.is_unspecified or of.is_multicast or mapped or broadcast
    return not odd and not to.is_multicast
