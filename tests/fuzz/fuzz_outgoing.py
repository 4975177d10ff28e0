"""Fuzz target: any octets as a message that leaves: downgraded to seven bits, then signed, then reported on.

The first octets choose sizes of chunks; the rest is the message, and what a remote server said of it.
"""

from __future__ import annotations

from email import message_from_bytes

from fuzz.hunting import hunt, pieces
from gatepost.content.dkim import NAME, SIGNED, SigningKey, Style, Unsigned, after, sign_blob
from gatepost.content.dkim_canonical import BodyHash, Canonical, canonical_field
from gatepost.content.dkim_keys import Algorithm, PrivateKey
from gatepost.content.downgrade import downgrade
from gatepost.content.dsn import About, Action, Outcome, render_postmaster_notice, render_report
from gatepost.content.headers import read_section
from gatepost.content.pieces import has_bare_line_end
from gatepost.content.values import write_field
from gatepost.model import Blob, Bytes, Path, Recipient, Reply

CUTS = 6
SEEDS = tuple(
    b"\x05\x01\x00\x09\x02\x03" + message
    for message in (
        b"From: a@b.example\r\nSubject: \xc3\xa9\r\n\r\n\xc3\xa9 \t \r\n\r\n\r\n",
        b"From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
        b"\xff\r\n--x\r\nContent-Type: text/plain; name=\"\xc3\xa9\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b"\xe9\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: i\r\n\r\n\xe9\r\n--x--\r\n\xff",
        b"From: =?utf-8?b?w6k=?= <a@b.example>\r\n\tfolded: x\r\n:\r\n \r\n\r\nbinary\x00\r\n\xff",
        b"Content-Type: multipart/signed; boundary=\"s\"\r\n\r\n--s\r\n\r\n\xe9\r\n--s--\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=\xff=3D=\r\n\xe9==\r\n.",
        b"Content-Transfer-Encoding: base64\r\nContent-Type: image/x\r\n\r\nw6n\xff==\r\nAA\r\n",
    )
)  # fmt: skip


class NoKey:
    """Signs nothing, of the right size."""

    def sign(self, data: bytes) -> bytes:
        """64 octets, as Ed25519's."""
        return b"\x5a" * 64


KEY = SigningKey("b.example", "s1", PrivateKey(Algorithm.ED25519, 256, NoKey()))  # type: ignore[arg-type]
STYLES = [Style(header, body, SIGNED) for header in Canonical for body in Canonical]


def one_input(data: bytes) -> None:
    """Seven bits or nothing, whole line ends stay whole, a header field is one field, hashes don't see the chunks."""
    if len(data) <= CUTS:
        return
    message, cuts = data[CUTS:], data[:CUTS]
    blob = Bytes(message)
    if (seven := downgrade(blob)) is not None:
        check_downgraded(blob, seven, cuts)
        blob = Bytes(b"".join(seven.chunks()))
    check_signed(blob, cuts)
    check_told(blob, message)


def check_downgraded(blob: Blob, seven: Blob, cuts: bytes) -> None:
    """What it is, is the same however it is read, and nothing to be done a second time."""
    octets = b"".join(seven.chunks())
    assert octets.isascii()
    assert seven.size == len(octets)
    at = 0
    for length in cuts:
        assert seven.read(at, length) == octets[at : at + length]
        at += length
    again = Bytes(octets)
    assert downgrade(again) is again
    if not has_bare_line_end([blob.read()]):
        assert not has_bare_line_end([octets])


def check_signed(blob: Blob, cuts: bytes) -> None:
    """Every style, and the hash of the body whole and cut."""
    section = read_section(blob)
    body = b"".join(after(blob.chunks(), len(section.raw)))
    for how in Canonical:
        digests = set()
        for parts in ([body], pieces(body, cuts)):
            hashed = BodyHash(how)
            for part in parts:
                hashed.feed(part)
            digests.add(hashed.digest())
        assert len(digests) == 1
    for field, name in zip(section.fields, section.names, strict=True):
        if not name:
            continue  # nothing that could be named in a signature
        once = canonical_field(field, Canonical.RELAXED)
        assert once.count(b"\r\n") == 1 or b"\r\n" not in field
        assert canonical_field(once, Canonical.RELAXED) == once
    for style in STYLES:
        try:
            values = sign_blob(blob, [KEY], style, 1_700_000_000)
        except Unsigned:
            continue
        [value] = values
        assert value.isascii()
        assert value.isprintable()
        written = write_field(NAME, value)
        assert read_section(Bytes(written + b"\r\n")).count("dkim-signature") == 1
        assert len(read_section(Bytes(written + b"\r\n")).fields) == 1


def check_told(blob: Blob, said: bytes) -> None:
    """A report is well-formed mail whatever the message holds and the server said; no field is anybody else's."""
    text = said.decode("latin-1")
    reply = Reply(550, "5.1.1", f"{text[:600]}\n{text[-600:]}")
    outcome = Outcome(
        Recipient(Path.parse("u@y.example"), {"ORCPT": text[:80]}), Action.FAILED, "5.1.1", reply, text[:70], text, 1.0
    )
    about = About("mx.example", "T", Path.parse("a@b.example"), blob, 0.0, 0.0, "=_b", "id@mx.example", envid=text[:90])
    for octets in (
        render_report(about, [outcome]),
        render_report(about, [outcome], return_full=True),
        render_postmaster_notice(about, "postmaster@mx.example", [outcome]),
    ):
        head = octets.partition(b"\r\n\r\n")[0]
        names = [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
        assert len(names) == len(set(names)) <= 9, names
        assert b"\0" not in head
        parsed = message_from_bytes(octets)
        assert len(parsed.get_payload()) in (2, 3)
        if parsed.get_content_subtype() == "report":
            fields = parsed.get_payload(1)
            assert len(fields.get_payload()) == 2  # about the message, about the recipient
            assert "\x1b" not in str(fields)


if __name__ == "__main__":
    hunt(one_input, SEEDS)
