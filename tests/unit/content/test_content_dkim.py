"""DKIM: canonical forms, keys, and signatures that other programs verify."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import time
from base64 import b64decode, encodebytes
from collections.abc import Mapping
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.content.dkim import MOST_FIELDS, NAME, SigningKey, Style, Unsigned, sign_blob
from gatepost.content.dkim_canonical import BodyHash, Canonical, canonical_field
from gatepost.content.dkim_keys import (
    Algorithm,
    KeyProblem,
    PrivateKey,
    check_selector,
    load_key,
    make_key,
    public_part,
    strings,
)
from gatepost.content.values import write_field
from gatepost.model import Bytes
from programs import program

NOW = int(time.time())
RSA = make_key(Algorithm.RSA)[0]
ED = make_key(Algorithm.ED25519)[0]
KEYS = [SigningKey("example.org", "r2026", RSA), SigningKey("example.org", "e2026", ED)]
STYLES = [Style(head, body) for head, body in itertools.product(Canonical, Canonical)]
NAMES = [f"{style.header.value}/{style.body.value}" for style in STYLES]

HEAD = (
    b"From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: a test\r\n"
    b"Date: Sat, 21 Nov 2026 18:00:00 +0000\r\n"
)
CORPUS = {
    "plain": HEAD + b"\r\nhello\r\n",
    "folded": HEAD + b"References: <a@b>\r\n\t<c@d>\r\n  <e@f>\r\nX-Long:\r\n  a \t b\r\n\r\nhello\r\n",
    "blanks": b"FROM: \t Ann <ann@example.org> \t \r\nsubject:  a   b\t \r\nDate: now\r\n\r\n a \t b \r\n\t\r\nc\t\r\n",
    "no body": HEAD + b"\r\n",
    "no empty line": HEAD,
    "an empty subject": b"Subject:\r\nFrom: ann@example.org\r\nDate: now\r\n\r\n\r\n",
    "empty lines at the end": HEAD + b"\r\nhello\r\n\r\n\r\n\r\n",
    "only empty lines": HEAD + b"\r\n\r\n\r\n",
    "only blanks": HEAD + b"\r\n \t \r\n  \r\n",
    "no line end at the end": HEAD + b"\r\nhello",
    "blanks and no line end": HEAD + b"\r\nhello \t",
    "8-bit": HEAD + "X-Name: Jörg\r\n\r\nGrüße\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    "dots": HEAD + b"\r\n.\r\n..\r\n.a\r\n",
    "long lines": HEAD + b"X-Long: " + b"a" * 900 + b"\r\n\r\n" + b"b" * 998 + b"\r\n" + b" c" * 40_000 + b"\r\n",
    "1 MB": HEAD + b"\r\n" + b"0123456789 abcdef  ghi\t\r\n" * 43_000,
    "the same field often": HEAD + b"Comments: a\r\nTo: c@example.net\r\nTo: d@example.net\r\n\r\nhello\r\n",
    "a signature already": HEAD + b"DKIM-Signature: v=1; b=x\r\n\r\nhello\r\n",
}  # fmt: skip


def signed(message: bytes, style: Style, keys: list[SigningKey] = KEYS) -> bytes:
    values = sign_blob(Bytes(message), keys, style, NOW)
    head = b"".join(write_field(NAME, value) for value in values)
    if b"\r\n\r\n" not in message:
        message += b"\r\n"
    return head + (message if message.endswith(b"\r\n") else message + b"\r\n")


def records(keys: list[SigningKey] = KEYS) -> Mapping[bytes, bytes]:
    return {f"{key.selector}._domainkey.{key.domain}.".encode(): key.key.public_record().encode() for key in keys}


def verified(message: bytes, place: int = 0) -> bool:
    """By dkimpy; `place` of several signatures."""
    verifier = dkim.DKIM(message, minkey=1024)
    try:
        return bool(verifier.verify(place, dnsfunc=lambda name, timeout=5: records().get(bytes(name), b"")))
    except dkim.DKIMException:
        return False


@pytest.mark.parametrize("style", STYLES, ids=NAMES)
@pytest.mark.parametrize("name", CORPUS)
def test_dkimpy_verifies(name: str, style: Style) -> None:
    message = signed(CORPUS[name], style)
    assert [verified(message, place) for place in (0, 1)] == [True, True]
    assert all(len(line) <= 78 for line in message.partition(b"\r\nF")[0].split(b"\r\n"))


@pytest.mark.needs("opendkim")
@pytest.mark.parametrize("key", KEYS, ids=["rsa", "ed25519"])
def test_opendkim_verifies(key: SigningKey, tmp_path: Path) -> None:
    lines = [f"{name.decode().rstrip('.')} {record.decode()}\n" for name, record in records().items()]
    (tmp_path / "keys").write_text("".join(lines))
    (tmp_path / "settings").write_text(f"Mode v\nTestPublicKeys {tmp_path}/keys\n")
    messages = [
        signed(message, style, [key])
        for (name, message), style in itertools.product(CORPUS.items(), STYLES)
        if name != "a signature already"  # a broken one is an error to it, whatever stands beside it
        # it doesn't keep the blanks after a colon, as simple would have it
        and not (style.header is Canonical.SIMPLE and name in ("blanks", "an empty subject"))
    ]
    changed = [message.replace(b"bob@", b"eve@") for message in messages[:4]]
    files = [tmp_path / f"{at}.eml" for at in range(len(messages) + len(changed))]
    for file, message in zip(files, messages + changed, strict=True):
        file.write_bytes(message.replace(b"\r\n", b"\n"))  # as it reads files; it hashes CRLF
    line = [program("opendkim"), "-x", str(tmp_path / "settings"), "-v", "-t", ",".join(map(str, files))]
    told = subprocess.run(line, capture_output=True, text=True, timeout=50, check=False)
    good = {said.split(": ")[1] for said in told.stdout.splitlines() if said.endswith("succeeded")}
    assert [file.name for file in files if str(file) in good] == [file.name for file in files[: len(messages)]]


@pytest.mark.parametrize("style", STYLES, ids=NAMES)
@pytest.mark.parametrize(
    "change",
    [
        (b"hello", b"hallo"),
        (b"\r\n\r\nhello", b"\r\nSubject: another\r\n\r\nhello"),
        (b"\r\n\r\nhello", b"\r\nFrom: eve@example.org\r\n\r\nhello"),
        (b"\r\n\r\nhello", b"\r\nReply-To: eve@example.com\r\n\r\nhello"),
        (b"\r\n\r\nhello", b"\r\nContent-Type: text/html\r\n\r\nhello"),
        (b"Ann <ann", b"Eve <ann"),
        (b"hello\r\n", b"hello\r\nand more\r\n"),
    ],
)
def test_what_changes_a_message_breaks_it(change: tuple[bytes, bytes], style: Style) -> None:
    message = signed(CORPUS["plain"], style)
    assert verified(message)
    assert not verified(message.replace(*change))


def test_lists_may_add_their_fields() -> None:
    message = signed(CORPUS["plain"], Style())
    assert verified(b"Received: x\r\n" + message.replace(b"\r\n\r\n", b"\r\nSender: list@x\r\nList-ID: <a.b>\r\n\r\n"))


def test_tags() -> None:
    value = sign_blob(Bytes(CORPUS["plain"]), KEYS[:1], Style(expires_s=3600), NOW)[0]
    tags = dict(tag.strip().split("=", 1) for tag in value.split(";"))
    assert tags["x"] == str(NOW + 3600)
    assert tags["t"] == str(NOW)
    assert (tags["d"], tags["s"], tags["a"], tags["q"]) == ("example.org", "r2026", "rsa-sha256", "dns/txt")
    assert "l" not in tags
    named = "".join(tags["h"].split()).lower().split(":")
    assert named.count("from") == 2
    assert named.count("cc") == 1
    assert "received" not in named
    assert "return-path" not in named


def test_what_isnt_signed() -> None:
    for message in (b"Subject: a\r\n\r\nb\r\n", HEAD + b"From: eve@example.com\r\n\r\nb\r\n", b""):
        with pytest.raises(Unsigned, match="From"):
            sign_blob(Bytes(message), KEYS, Style(), NOW)
    with pytest.raises(Unsigned, match="more than"):
        sign_blob(Bytes(HEAD + b"List-ID: a\r\n" * (MOST_FIELDS + 1) + b"\r\n"), KEYS, Style(), NOW)


def test_never_signed_though_asked_for() -> None:
    message = signed(b"Received: a\r\n" + CORPUS["plain"], Style(signed=("From", "Received"), oversigned=()))
    assert verified(b"Received: b\r\n" + message)


# ── canonical forms ────────────────────────────────────────────────────────────────────────────────────────────────


def body_hash(chunks: list[bytes], how: Canonical) -> bytes:
    body = BodyHash(how)
    for chunk in chunks:
        body.feed(chunk)
    return body.digest()


def test_examples_of_the_rfc() -> None:
    """rfc6376#3.4.5"""
    assert canonical_field(b"A: X\r\n", Canonical.RELAXED) == b"a:X\r\n"
    assert canonical_field(b"B : Y\t\r\n\tZ  \r\n", Canonical.RELAXED) == b"b:Y Z\r\n"
    body = b" C \r\nD \t E\r\n\r\n\r\n"
    assert body_hash([body], Canonical.RELAXED) == hashlib.sha256(b" C\r\nD E\r\n").digest()
    assert body_hash([body], Canonical.SIMPLE) == hashlib.sha256(b" C \r\nD \t E\r\n").digest()
    assert body_hash([], Canonical.RELAXED) == b64decode("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
    assert body_hash([], Canonical.SIMPLE) == b64decode("frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=")


OCTETS = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"\xfc", b".", b"  \r\n", b"\r\n\r\n"]), max_size=40)


@given(OCTETS, st.sampled_from([*Canonical]), st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=400)
def test_bodies_as_dkimpy_makes_them_however_they_are_cut(pieces: list[bytes], how: Canonical, cuts: list[int]) -> None:
    whole = b"".join(pieces)
    as_sent = whole if whole.endswith(b"\r\n") or not whole else whole + b"\r\n"
    theirs = (Relaxed if how is Canonical.RELAXED else Simple).canonicalize_body(as_sent)
    if how is Canonical.RELAXED and not as_sent.replace(b"\r\n", b"").strip(b" \t"):
        theirs = b""  # rfc6376#3.4.4: a body of empty lines is none
    places = sorted({0, *(min(cut, len(whole)) for cut in cuts), len(whole)})
    chunks = [whole[start:stop] for start, stop in itertools.pairwise(places)]
    assert body_hash(chunks, how) == hashlib.sha256(theirs).digest()


@given(st.lists(st.sampled_from([b" ", b"\t", b"a", b"B", b":", b"\r\n ", b"\r\n\t", b"\xfc"]), max_size=30))
def test_fields_as_dkimpy_makes_them(pieces: list[bytes]) -> None:
    name, value = b"X-Name \t", b"".join(pieces) + b"\r\n"
    ((theirs_name, theirs),) = Relaxed.canonicalize_headers([(name, value)])
    assert canonical_field(name + b":" + value, Canonical.RELAXED) == theirs_name + b":" + theirs


@pytest.mark.parametrize("how", [*Canonical])
@pytest.mark.parametrize("line", [b" ", b"\t ", b"\r\n", b"\r", b" \r", b"\r\n ", b" a"])
def test_hostile_bodies_cost_linear_time(line: bytes, how: Canonical) -> None:
    chunk = (line * 65536)[:65536]
    began = time.process_time()
    body = BodyHash(how)
    for _ in range(500):
        body.feed(chunk)
    body.feed(b"x")
    body.digest()
    assert time.process_time() - began < 10  # quadratic time would be minutes
    assert len(body._tail) <= 2


@pytest.mark.parametrize("how", [*Canonical])
def test_a_header_field_of_blanks(how: Canonical) -> None:
    began = time.process_time()
    for _ in range(20):
        canonical_field(b"X: " + b" \t" * 40_000 + b"a" + b"\r\n " * 40_000 + b"\r\n", how)
    assert time.process_time() - began < 5


# ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def pem_of(key: PrivateKey, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key._key.private_bytes(Encoding.PEM, form, NoEncryption())


@pytest.mark.parametrize(
    "pem",
    [
        pem_of(RSA),
        pem_of(RSA, PrivateFormat.TraditionalOpenSSL),
        pem_of(ED),
        pem_of(RSA).rstrip(b"\n"),
        pem_of(RSA).replace(b"\n", b"\r\n"),
        pem_of(ED).replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + pem_of(RSA),
        b"a comment\n\n" + pem_of(RSA) + b"\n\n",
        b"".join(b"  " + line + b" \n" for line in pem_of(RSA).splitlines()),
        RSA._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) + pem_of(RSA),
    ],
)
def test_keys_however_they_were_carried(pem: bytes) -> None:
    assert load_key(pem).public_record() in (RSA.public_record(), ED.public_record())


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (b"", "holds no PEM key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "can't be read"),
        (b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 100_000, "too long"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "holds no PEM key"),
        (RSA._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "public key"),
        (pem_of(PrivateKey(Algorithm.RSA, 1, ec.generate_private_key(ec.SECP256R1()))), "RSA and Ed25519"),  # type: ignore[arg-type]
        (RSA._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "passphrase"),
        (
            RSA._key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x")),
            "passphrase|read",
        ),
    ],
)
def test_what_is_no_key_says_why(pem: bytes, why: str) -> None:
    with pytest.raises(KeyProblem, match=why):
        load_key(pem)


def test_numbers_that_are_no_key_are_found_before_anything_is_signed() -> None:
    key = RSA._key
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    exponent = numbers.d.to_bytes(256, "big")
    der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert exponent.lstrip(b"\0") in der
    wrong = der.replace(exponent[100:120], bytes(20))
    pem = b"-----BEGIN RSA PRIVATE KEY-----\n" + encodebytes(wrong) + b"-----END RSA PRIVATE KEY-----\n"
    assert load_key(pem, is_proven=False).bits == 2048
    with pytest.raises(KeyProblem, match="can't be read"):
        load_key(pem)


def test_a_key_isnt_shown() -> None:
    assert repr(RSA) == "PrivateKey(algorithm=<Algorithm.RSA: 'rsa-sha256'>, bits=2048)"


def test_records() -> None:
    record = RSA.public_record()
    assert record.startswith("v=DKIM1; k=rsa; p=MII")
    assert "".join(strings(record)) == record
    assert max(map(len, strings(record))) == 255
    kind, raw = public_part(ED.public_record()) or ("", b"")
    assert (kind, len(raw)) == ("ed25519", 32)
    assert public_part(record.replace("p=", "n=x;p=").replace(" ", "")) == public_part(record)
    assert public_part("v=DKIM1; p=") == ("rsa", b"")
    assert public_part("v=spf1 -all") is None
    assert public_part("v=DKIM1; p=???") is None


@pytest.mark.parametrize("selector", ["", "a b", "-a", "a-", "a..b", "ä", "a" * 64, "a/b"])
def test_selectors_are_names(selector: str) -> None:
    with pytest.raises(KeyProblem):
        check_selector(selector)


def test_short_keys_are_refused() -> None:
    with pytest.raises(KeyProblem):
        make_key(Algorithm.RSA, 512)
    check_selector("s2026.mail")
    assert make_key(Algorithm.RSA, 1024)[0].bits == 1024
    assert isinstance(load_key(make_key(Algorithm.ED25519)[1])._key, ed25519.Ed25519PrivateKey)
    assert isinstance(load_key(make_key(Algorithm.RSA, 1024)[1])._key, rsa.RSAPrivateKey)
