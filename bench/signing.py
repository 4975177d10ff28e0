"""What a signature costs: CPU per message of ours beside dkimpy's, in one run, interleaved, the median of the rounds.

`python bench/signing.py [--rounds N]`. Ratios are what is worth keeping: the machine changes, they don't.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable

import dkim
from nacl.signing import SigningKey as NaclKey

from gatepost.content.dkim import OVERSIGNED, SigningKey, Style, sign_blob
from gatepost.content.dkim_canonical import BodyHash, Canonical
from gatepost.content.dkim_keys import Algorithm, load_key, make_key
from gatepost.model import Bytes

HEAD = (
    b"Received: from a.example (a.example [192.0.2.1]) by mx.example.org with ESMTP; "
    b"Sat, 21 Nov 2026 18:00:00 +0000\r\n"
    b"From: Ann <ann@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: the quarterly report, once more\r\n"
    b"Date: Sat, 21 Nov 2026 18:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
)
LINE = b"The quick brown fox jumps over the lazy dog, and back  again.\r\n"
SIZES = {"4 KiB": 4096, "1 MiB": 2**20}
RSA, RSA_PEM = make_key(Algorithm.RSA)
NACL = NaclKey.generate()


def message(size: int) -> bytes:
    return HEAD + LINE * ((size - len(HEAD)) // len(LINE))


def ours(keys: list[SigningKey], content: bytes) -> Callable[[], object]:
    return lambda: sign_blob(Bytes(content), keys, Style(), 1_700_000_000)


def theirs(algorithm: bytes, pem: bytes, content: bytes) -> Callable[[], object]:
    headers = [name.lower().encode() for name in OVERSIGNED]
    relaxed = (b"relaxed", b"relaxed")
    return lambda: dkim.sign(
        content,
        b"s1",
        b"example.org",
        pem,
        canonicalize=relaxed,
        include_headers=headers,
        signature_algorithm=algorithm,
    )


def hashing(content: bytes) -> Callable[[], object]:
    def run() -> bytes:
        body = BodyHash(Canonical.RELAXED)
        for chunk in Bytes(content).chunks():
            body.feed(chunk)
        return body.digest()

    return run


def cost(run: Callable[[], object], at_least_s: float = 0.05) -> float:
    """CPU seconds of one run."""
    count, began = 0, time.process_time()
    while (spent := time.process_time() - began) < at_least_s:
        run()
        count += 1
    return spent / count


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    logging.disable()
    ed = make_key(Algorithm.ED25519)[0]
    keys = {
        "RSA-2048": ([SigningKey("example.org", "s1", load_key(RSA_PEM))], b"rsa-sha256", RSA_PEM),
        "Ed25519": ([SigningKey("example.org", "s1", ed)], b"ed25519-sha256", NACL.encode()),
    }
    print(f"{'':<12}{'':<10}{'ours':>10}{'dkimpy':>10}{'ratio':>8}")
    for size, octets in SIZES.items():
        content = message(octets)
        for name, (signing, algorithm, pem) in keys.items():
            their_pem = pem if name == "RSA-2048" else _base64(pem)
            pair = (ours(signing, content), theirs(algorithm, their_pem, content))
            _row(size, name, pair, rounds)
        both = [key for signing, _, _ in keys.values() for key in signing]
        _row(size, "both", (ours(both, content),), rounds)
        _row(size, "body hash", (hashing(content),), rounds)


def _row(size: str, name: str, runs: tuple[Callable[[], object], ...], rounds: int) -> None:
    found = [[cost(run) for run in runs] for _ in range(rounds)]
    medians = [statistics.median(column) * 1e6 for column in zip(*found, strict=True)]
    told = "".join(f"{median:>7.0f} µs" for median in medians)
    ratio = f"{medians[1] / medians[0]:>8.2f}" if len(medians) > 1 else ""
    print(f"{size:<12}{name:<10}{told}{ratio}")


def _base64(octets: bytes) -> bytes:
    from base64 import b64encode

    return b64encode(octets)


if __name__ == "__main__":
    main()
