"""Tokens and public key lines: docs/protocol.md, sections 8 and 9."""

import base64
import hashlib
import re

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from spa_protocol import ed25519_public, signature_holds, u64, usable

TOKEN = "spa1."
SEALED = "spa1-sealed."
KEY_LINE = "spa1-key."
# Memory in KiB, passes, lanes: what a writer takes, and the most that a reader does.
COST, MOST = (65536, 3, 4), (131072, 6, 8)
HOST = re.compile(r"[A-Za-z0-9:%_][A-Za-z0-9:%_.-]{0,252}")
NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")


class Damaged(Exception):
    """Not a line that the protocol knows."""


class TooDear(Damaged):
    """One that asks its reader for too much work."""


def armour(prefix: str, payload: bytes) -> str:
    whole = payload + checksum(prefix, payload)
    return prefix + base64.urlsafe_b64encode(whole).decode().rstrip("=")


def unarmour(prefix: str, line: str) -> bytes:
    text = line.strip()
    check(text.startswith(prefix), "another kind of line")
    text = text.removeprefix(prefix)
    check(re.fullmatch(r"[A-Za-z0-9_-]+", text) and len(text) % 4 != 1, "not base64url")
    payload = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[:-6]
    check(armour(prefix, payload) == prefix + text, "damaged")
    return payload


def checksum(prefix: str, payload: bytes) -> bytes:
    return hashlib.sha256(prefix.encode() + payload).digest()[:6]


def encode_token(fields: dict[str, str]) -> str:
    """`fields` as in a file of section 14: secret and expires, or key; with seconds or without."""
    key, expires = fields.get("key"), int(fields.get("expires", "0"))
    times = fields.get("seconds", "").split()
    names = ["S", "cloak", "kid", "psk"]
    payload = bytes([(key is not None) + 2 * bool(times)]) + int(fields["port"]).to_bytes(2, "big")
    payload += b"".join(bytes.fromhex(fields[name]) for name in names)
    payload += bytes.fromhex(key or fields["secret"]) + u64(expires) + text(fields["host"])
    services = fields["services"].split()
    payload += bytes([len(services)]) + b"".join(map(text, services))
    return armour(TOKEN, payload + b"".join(int(time).to_bytes(4, "big") for time in times))


def decode_token(line: str) -> dict[str, str]:
    payload = unarmour(TOKEN, line)
    check(len(payload) >= 140 and payload[0] <= 3, "not a token's payload")
    kind, timed = payload[0] & 1, payload[0] & 2
    port, expires = number(payload[1:3]), number(payload[131:139])
    places = {"S": (3, 35), "cloak": (35, 51), "kid": (51, 67), "psk": (67, 99)}
    fields = {name: payload[start:end].hex() for name, (start, end) in places.items()}
    host, rest = take_text(payload[139:])
    services, rest = take_services(rest)
    check(len(rest) == (4 * len(services) if timed else 0), "times")
    times = [number(rest[at : at + 4]) for at in range(0, len(rest), 4)]
    check(any(times) or not timed, "no time at all")
    check(HOST.fullmatch(host) and port != 0, "host or port")
    fields |= {"host": host, "port": str(port), "services": " ".join(services)}
    if timed:
        fields["seconds"] = " ".join(map(str, times))
    if kind == 0:
        return fields | {"secret": payload[99:131].hex(), "expires": str(expires)}
    check(expires == 0 and usable(payload[99:131]), "not a key")
    return fields | {"key": payload[99:131].hex()}


def encode_sealed(token: str, passphrase: str, salt: bytes, parts=COST) -> str:
    """A token under a passphrase: section 8.1."""
    payload = unarmour(TOKEN, token)
    cost = b"".join(part.to_bytes(4, "big") for part in parts)
    sealed = cipher(passphrase, salt, parts).encrypt(bytes(12), payload, b"spa1 token\0" + cost)
    return armour(SEALED, cost + salt + sealed)


def decode_sealed(line: str, passphrase: str) -> tuple[bytes, str]:
    """The salt and the token."""
    payload = unarmour(SEALED, line)
    cost, salt, sealed = payload[:12], payload[12:28], payload[28:]
    parts = [number(cost[at : at + 4]) for at in (0, 4, 8)]
    check(len(salt) == 16, "cut")
    if any(part > most for part, most in zip(parts, MOST)):
        raise TooDear(f"memory, passes, lanes: {parts}")
    try:
        opened = cipher(passphrase, salt, parts).decrypt(bytes(12), sealed, b"spa1 token\0" + cost)
    except InvalidTag:
        raise Damaged("not the passphrase") from None
    token = armour(TOKEN, opened)
    decode_token(token)
    return salt, token


def cipher(passphrase: str, salt: bytes, cost) -> ChaCha20Poly1305:
    memory, passes, lanes = cost
    return ChaCha20Poly1305(
        hash_secret_raw(passphrase.encode(), salt, passes, memory, lanes, 32, Type.ID)
    )


def take_services(rest: bytes) -> tuple[list[str], bytes]:
    check(rest, "cut")
    count, rest, services = rest[0], rest[1:], []
    for _ in range(count):
        name, rest = take_text(rest)
        check(NAME.fullmatch(name) and name not in services, "services")
        services.append(name)
    check(services, "services")
    return services, rest


def number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def take_text(rest: bytes) -> tuple[str, bytes]:
    check(rest and len(rest) > rest[0] and rest[1 : 1 + rest[0]].isascii(), "cut")
    return rest[1 : 1 + rest[0]].decode(), rest[1 + rest[0] :]


def encode_key_line(seed: bytes) -> str:
    key, signing = ed25519_public(seed), ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    return armour(KEY_LINE, key + signing.sign(b"spa1 request\0" + key))


def decode_key_line(line: str) -> bytes:
    payload = unarmour(KEY_LINE, line)
    key, signature = payload[:32], payload[32:]
    check(len(payload) == 96 and signature_holds(key, b"spa1 request\0" + key, signature), "proof")
    return key


def check(holds: object, what: str) -> None:
    if not holds:
        raise Damaged(what)
