"""8-bit content for a server that takes seven bits: what readers see stays, what may not be touched isn't."""

from __future__ import annotations

import email
import email.policy
import time
from email.message import EmailMessage, Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.content import downgrade as module
from gatepost.content.downgrade import downgrade
from gatepost.content.mime import MimeLimits
from gatepost.content.values import decode_words
from gatepost.model import Blob, Bytes

UMLAUTS = "Grüße aus Köln, und bis bald, wie immer\r\n"


def crlf(text: str | bytes) -> bytes:
    octets = text.encode() if isinstance(text, str) else text
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def done(content: str | bytes) -> bytes | None:
    """The new octets; they are 7-bit, and reading them whole, in chunks and at any place is the same."""
    blob = downgrade(Bytes(crlf(content)))
    if blob is None:
        return None
    whole = blob.read()
    assert whole.isascii()
    assert len(whole) == blob.size
    assert b"".join(blob.chunks()) == whole
    assert all(blob.read(at, 100) == whole[at : at + 100] for at in range(0, min(len(whole), 4000), 37))
    return whole


def changed(content: str | bytes) -> bytes:
    octets = done(content)
    assert octets is not None
    return octets


def leaves(octets: bytes) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for part in email.message_from_bytes(octets).walk():
        if not part.is_multipart():
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            found.append((part.get_content_type(), payload))
    return found


def test_seven_bits_stay_as_they_are() -> None:
    blob = Bytes(crlf("Subject: a\nContent-Transfer-Encoding: 8bit\n\nhello\n"))
    assert downgrade(blob) is blob


def test_a_text() -> None:
    octets = changed(
        "Subject: a\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
        + UMLAUTS
    )
    assert b"\r\nContent-Transfer-Encoding: quoted-printable\r\n" in octets
    assert octets.endswith(b"Gr=C3=BC=C3=9Fe aus K=C3=B6ln, und bis bald, wie immer\r\n")


def test_the_shorter_encoding_is_taken() -> None:
    octets = changed("Content-Type: text/plain; charset=utf-8\n\n" + "Привет, мир\n" * 20)
    assert b"\r\nContent-Transfer-Encoding: base64\r\n" in octets
    assert octets.endswith(b"\r\n")
    assert leaves(octets) == [("text/plain", "Привет, мир\r\n".encode() * 20)]


@pytest.mark.parametrize(("text", "charset"), [(UMLAUTS.encode(), "utf-8"), (b"Gr\xfc\xdfe\r\n", "unknown-8bit")])
def test_content_without_a_label_gets_one(text: bytes, charset: str) -> None:
    octets = changed(b"Subject: a\n\n" + text)
    message = email.message_from_bytes(octets)
    assert message["MIME-Version"] == "1.0"
    assert message.get_content_charset() == charset
    assert message.get_payload(decode=True) == text


def test_a_multipart_is_labelled_by_what_it_holds() -> None:
    octets = changed(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\nvorwärts\n"
        "--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nÄpfel und Birnen wie immer\n"
        "--b\nContent-Type: text/plain\n\nplain\n"
        "--b\nContent-Transfer-Encoding: 8bit\n\nplain too\n"
        "--b\nContent-Type: image/x\nContent-Transfer-Encoding: base64\n\nAAAA\n--b--\nnachwärts\n"
    )
    message = email.message_from_bytes(octets)
    assert message["Content-Transfer-Encoding"] == "7bit"
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [part["Content-Transfer-Encoding"] for part in parts if isinstance(part, Message)] == [
        "quoted-printable", None, "7bit", "base64",
    ]  # fmt: skip
    assert leaves(octets)[0] == ("text/plain", "Äpfel und Birnen wie immer".encode())
    assert b"\r\nvorw??rts\r\n--b\r\n" in octets


def test_octets_that_are_no_text_come_back_whole() -> None:
    content = bytes(range(256)) * 300
    head = b"MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    blob = downgrade(Bytes(head + content))
    assert blob is not None
    assert leaves(blob.read()) == [("application/x", content)]


def test_a_line_like_a_delimiter_doesnt_become_one() -> None:
    octets = changed(
        "Content-Type: multipart/mixed; boundary=outer\n\n--outer\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\nContent-Type: text/plain; charset=utf-8\n\nä\n--b--\n--outer--\n"
    )
    assert leaves(octets) == [("text/plain", "ä".encode())]


def test_a_message_within_is_converted_within() -> None:
    octets = changed(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\n"
        "Subject: Grüße\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nÄpfel\n--b--\n"
    )
    parts = email.message_from_bytes(octets).get_payload()
    assert isinstance(parts, list)
    outer = parts[0]
    assert isinstance(outer, Message)
    assert outer["Content-Transfer-Encoding"] == "7bit"
    inner = outer.get_payload()
    assert isinstance(inner, list)
    message = inner[0]
    assert isinstance(message, Message)
    assert decode_words(str(message["Subject"])) == "Grüße"
    assert message.get_payload(decode=True) == "Äpfel".encode()


SIGNED = (
    "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n"
    "--o\nContent-Type: text/plain; charset=utf-8\n\nÄ\n"
    "--o\nContent-Type: multipart/{}; boundary=b\n\n--b\nContent-Transfer-Encoding: 8bit\n\n{}\n"
    "--b\nContent-Type: application/x-signature\n\nAAAA\n--b--\n\n--o--\n"
)


@pytest.mark.parametrize("kind", ["signed", "encrypted"])
def test_what_is_sealed_isnt_touched(kind: str) -> None:
    assert done(SIGNED.format(kind, "Ä")) is None
    octets = changed(SIGNED.format(kind, "A"))
    sealed = crlf(SIGNED.format(kind, "A")).partition(b"--b")[2].partition(b"--o--")[0]
    assert sealed in octets


@pytest.mark.parametrize(
    "content",
    [
        "Content-Type: message/delivery-status\nContent-Transfer-Encoding: 8bit\n\nÄ\n",
        "Content-Type: message/partial; id=1\n\nÄ\n",
        "Content-Type: message/global\n\nSubject: Ä\n\nb\n",
        "Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nÄ\n",
        "Content-Type: text/plain\nContent-Transfer-Encoding: ä\n\na\n",
        "Message-ID: <ä@example.org>\n\na\n",
        "From: ä@example.org\n\na\n",
        "From: ann@exämple.org\n\na\n",
        "From: ann@example.org (Müller)\n\na\n",
        "kein Feld: ä\n\na\n",
        'Content-Type: multipart/mixed; boundary="ä"\n\n--ä\n\na\n--ä--\n',
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nÄ\n",
        "Content-Type: text/plain\nContent-Type: text/html\n\nÄ\n",
    ],
)
def test_what_cant_be_re_encoded(content: str) -> None:
    assert done(content) is None


def test_header_fields() -> None:
    octets = changed(
        'Subject: Grüße\nFrom: "Jörg Müller" <joerg@example.org>\nX-Note: ä\nDate: now\nContent-Type: text/plain; '
        'charset=utf-8; name="Übersicht.txt"\n\nhello\n'
    )
    parsed = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    assert parsed["Subject"] == "Grüße"
    assert parsed["From"].addresses[0].display_name == "Jörg Müller"
    assert parsed["From"].addresses[0].addr_spec == "joerg@example.org"
    assert parsed.get_filename() == "Übersicht.txt"
    assert parsed.get_content_charset() == "utf-8"
    assert octets.endswith(b"\r\n\r\nhello\r\n")


def test_damaged_encodings_are_encoded_again() -> None:
    octets = changed(
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=84 Ä\n"
    )
    assert leaves(octets) == [("text/plain", "Ä Ä\r\n".encode())]
    octets = changed("Content-Type: image/x\nContent-Transfer-Encoding: base64\n\nAAÄAA\n")
    assert leaves(octets) == [("image/x", b"\0\0\0")]


def test_much_is_encoded_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", 100)
    for size in (101, 114, 115, 116, 57 * 50):
        content = (b"\xff" * 57 + bytes(range(200)) * 40)[:size]
        octets = changed(b"Content-Type: application/x\r\n\r\n" + content.replace(b"\r", b"a").replace(b"\n", b"b"))
        assert leaves(octets) == [("application/x", content.replace(b"\r", b"a").replace(b"\n", b"b"))]


class Reads:
    """A large message that counts the octets of the longest read."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head, self.size, self.longest = head, len(head) + size, 0

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        stop = self.size if length is None else min(self.size, offset + length)
        self.longest = max(self.longest, stop - offset)
        return (self.head[offset:stop] + b"\xe4" * (stop - max(offset, len(self.head))))[: max(0, stop - offset)]

    def chunks(self):  # type: ignore[no-untyped-def]
        return (self.read(at, 65536) for at in range(0, self.size, 65536))

    def open(self):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def test_a_large_message_is_never_held() -> None:
    large = Reads(b"Content-Type: application/x\r\n\r\n", 30 * 2**20)
    assert isinstance(large, Blob)
    found = downgrade(large)
    assert found is not None
    assert sum(map(len, found.chunks())) == found.size > 40 * 2**20
    assert large.longest <= 128 * 1024


@pytest.mark.parametrize(
    "hostile",
    [
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n\xe4\r\n" * 100_000 + b"--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"\r\n--c" * 500_000 + b"\xe4",
        b"\xe4" * 2_000_000,
        b"Subject:" + b" \xe4" * 100_000 + b"\r\n\r\n",
        b"From:" + b" \xe4<" * 80_000 + b"\r\n\r\n",
        b"From:" + b'"\\\xe4' * 80_000 + b"\r\n\r\n",
        b"Content-Type: text/plain" + b";a=\xe4" * 50_000 + b"\r\n\r\n",
        b"\r\n" + b"\xe4\r" * 400_000,
    ],
)
def test_hostile_content_costs_linear_time(hostile: bytes) -> None:
    began = time.process_time()
    found = downgrade(Bytes(hostile))
    assert found is None or b"".join(found.chunks()).isascii()
    assert time.process_time() - began < 5  # quadratic time would be minutes


def test_limits_hold() -> None:
    content = crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nä\n--b\n\nä\n--b--\n")
    assert downgrade(Bytes(content)) is not None
    assert downgrade(Bytes(content), MimeLimits(parts=2)) is None


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.sampled_from(["text/plain", "image/x"]))
def test_any_leaves_come_back(contents: list[bytes], kind: str) -> None:
    written = [one.replace(b"\r", b"").replace(b"\n", b"\r\n") for one in contents]
    parts = b"".join(b"--=_b\r\nContent-Type: %s\r\n\r\n%s\r\n" % (kind.encode(), one) for one in written)
    octets = done(b'Content-Type: multipart/mixed; boundary="=_b"\r\n\r\n' + parts + b"--=_b--\r\n")
    if octets is not None:
        assert [payload.replace(b"\r\n", b"\n") for _, payload in leaves(octets)] == [
            one.replace(b"\r\n", b"\n") for one in written
        ]


@given(st.binary(max_size=300))
def test_any_content_becomes_ascii_or_nothing(content: bytes) -> None:
    found = downgrade(Bytes(content))
    assert found is None or found.read().isascii()
