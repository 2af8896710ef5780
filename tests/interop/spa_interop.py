#!/usr/bin/python3
"""A second implementation of docs/protocol.md, on the command line.

    spa_interop.py seal           cases on standard input, datagrams out
    spa_interop.py open           cases on standard input, outcomes out
    spa_interop.py request        seeds on standard input, public key lines out
    spa_interop.py vectors DIR    every case in DIR, and a summary

A case is text as in section 14; several are separated by a line "---", and so
are the answers. `seal` needs server, cloak, kid, psk, seed, and the fields of
the request or a body; randomness and ts come from the system where they are
not given. In place of server, cloak, kid, psk and kind a token can stand.

Needs Debian's python3-argon2 and python3-cryptography.
"""

import os
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True  # nothing is left in the source tree

from spa_protocol import (  # noqa: E402
    CLIENT_BUDGET,
    GLOBAL_BUDGET,
    TOLERANCE_MS,
    Client,
    Refused,
    Request,
    Server,
    ed25519_public,
    x25519_public,
)
from spa_token import (  # noqa: E402
    COST,
    TooDear,
    decode_key_line,
    decode_sealed,
    decode_token,
    encode_key_line,
    encode_sealed,
    encode_token,
)

Case = dict[str, list[str]]


def parse(text: str) -> Case:
    case: Case = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition(":")
            case.setdefault(key, []).append(value.strip())
    return case


def one(case: Case, key: str, default: str | None = None) -> str:
    values = case.get(key, [default] if default is not None else [])
    if len(values) != 1:
        raise ValueError(f"{key}: {len(values)} values where one is needed")
    return values[0]


def octets(case: Case, key: str) -> bytes:
    return bytes.fromhex(one(case, key))


def seal_case(case: Case) -> dict[str, object]:
    if "token" in case:
        case = case | of_token(one(case, "token"), octets(case, "seed"))
    names = ["server", "cloak", "kid", "psk", "seed"]
    client = Client(*(octets(case, name) for name in names))
    body = body_of(case)
    ts = int(one(case, "ts", str(time.time_ns() // 1_000_000)))
    randomness = bytes.fromhex(one(case, "randomness", os.urandom(32).hex()))
    return client.seal(body, ts, randomness)


def of_token(line: str, seed: bytes) -> Case:
    """What a client knows that was handed this token (section 8)."""
    fields, key = decode_token(line), ed25519_public(seed).hex()
    if fields.get("key", key) != key:
        raise ValueError("the token is for another signing key")
    kind = f"enrol {key} {fields['secret']}" if "secret" in fields else "knock"
    known = {name: [fields[name]] for name in ("cloak", "kid", "psk")}
    return known | {"server": [fields["S"]], "kind": [kind]}


def body_of(case: Case) -> bytes:
    if "kind" not in case:
        return octets(case, "body")
    return Request(
        kind=one(case, "kind"),
        mode=one(case, "mode", "default"),
        address=one(case, "address", "seen"),
        width=int(one(case, "width", "0")),
        seconds=int(one(case, "seconds", "0")),
        services=one(case, "services").split(),
    ).encode()


def server_of(case: Case) -> Server:
    server = Server(
        octets(case, "s"),
        octets(case, "cloak"),
        int(one(case, "tolerance", str(TOLERANCE_MS))),
        int(one(case, "global-budget", str(GLOBAL_BUDGET)).split()[0]),
    )
    budget = int(one(case, "client-budget", str(CLIENT_BUDGET)).split()[0])
    for line in case.get("client", []):
        kid, psk = map(bytes.fromhex, line.split())
        server.add(kid, psk, budget)
    sender = [member for member in server.members if member.kid == sender_kid(case)]
    if sender:
        sender[0].floor = int(one(case, "floor", "0"))
    return server


def sender_kid(case: Case) -> bytes:
    return bytes.fromhex(case["kid"][0] if "kid" in case else case["client"][0].split()[0])


def open_case(case: Case) -> dict[str, object]:
    """The outcome of a case, in its own words."""
    server, now = server_of(case), int(one(case, "now"))
    addresses = one(case, "source"), one(case, "destination")
    for earlier in case.get("earlier", []):
        try_gate(server, bytes.fromhex(earlier), addresses, now)
    half = "gate"
    try:
        signed = server.gate(octets(case, "datagram"), *addresses, now)
        half = "warden"
        warden_now = int(one(case, "warden-now", str(now)))
        binds = server.warden(signed, one(case, "record").split(), warden_now)
    except Refused as refused:
        return {"expect": refused.args[0], "at": half}
    out: dict[str, object] = {"expect": "signed", "kid": signed.kid, "nonce": signed.nonce}
    out |= {"ts": signed.ts, "body": signed.body}
    return out | ({"binds": binds} if binds else {})


def try_gate(server: Server, datagram: bytes, addresses: tuple[str, str], now: int) -> None:
    try:
        server.gate(datagram, *addresses, now)
    except Refused:
        pass


def text_of(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def failures(case: Case) -> list[str]:
    """What of a case does not come out as its file says."""
    outcome = open_case(case)
    found = compare(case, outcome, ["expect", "at", "binds"])
    found += compare(case, outcome, [key for key in outcome if key in case])
    if "S" in case and x25519_public(octets(case, "s")) != octets(case, "S"):
        found.append("S: not the public key of s")
    if "seed" in case:
        made = seal_case(case)
        found += compare(case, made, list(made))
    return found


def compare(case: Case, got: dict[str, object], keys: list[str]) -> list[str]:
    of_file = {key: one(case, key, "") for key in keys}
    here = {key: text_of(got.get(key, "")) for key in keys}
    differ = [key for key in keys if of_file[key] != here[key]]
    return [f"{key}: the file says {of_file[key]!r}, here {here[key]!r}" for key in differ]


def line_failures(case: Case) -> list[str]:
    """The same for a token or a public key line."""
    fields = {key: one(case, key) for key in case if key != "line"}
    line = one(case, "line")
    if "seed" in fields:
        agrees = decode_key_line(line).hex() == fields["key"]
        made = encode_key_line(octets(case, "seed"))
    elif "passphrase" in fields:
        passphrase, token, salt = fields["passphrase"], fields["token"], octets(case, "salt")
        cost = [int(part) for part in fields["cost"].split()] if "cost" in fields else COST
        agrees = read_sealed(line, passphrase) == fields.get("expect", (salt, token))
        made = encode_sealed(token, passphrase, salt, cost)
    else:
        agrees = decode_token(line) == fields
        made = encode_token(fields)
    found = [] if agrees else ["line: read otherwise"]
    return found + ([] if made == line else [f"line: here {made!r}"])


def read_sealed(line: str, passphrase: str) -> object:
    """The salt and the token, or that they cost too much."""
    try:
        return decode_sealed(line, passphrase)
    except TooDear:
        return "too-dear"


def run_vectors(directory: str) -> int:
    paths = sorted(Path(directory).rglob("*.txt"))
    bad = 0
    for path in paths:
        case = parse(path.read_text())
        found = line_failures(case) if "line" in case else failures(case)
        bad += bool(found)
        for failure in found:
            print(f"{path.name}: {failure}")
    print(f"{len(paths)} cases, {bad} failed")
    return 1 if bad or not paths else 0


def run_cases(what) -> int:
    answers = []
    for text in sys.stdin.read().split("\n---\n"):
        answer = what(parse(text))
        answers.append("".join(f"{key}: {text_of(value)}\n" for key, value in answer.items()))
    print("---\n".join(answers), end="")
    return 0


def main() -> int:
    match sys.argv[1:]:
        case ["seal"]:
            return run_cases(lambda case: {"datagram": seal_case(case)["datagram"]})
        case ["open"]:
            return run_cases(open_case)
        case ["request"]:
            return run_cases(lambda case: {"line": encode_key_line(octets(case, "seed"))})
        case ["vectors", directory]:
            return run_vectors(directory)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
