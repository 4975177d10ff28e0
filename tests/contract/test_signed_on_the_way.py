"""What leaves is signed: from the settings, through the dispatcher and a session, to what the next server has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as File

import dkim
import pytest

from gatepost.app.settings import Settings, load
from gatepost.app.signing import load_signing
from gatepost.content.dkim_keys import Algorithm, make_key
from gatepost.delivery import Dialer, Relay
from gatepost.delivery.connection import Connection
from gatepost.delivery.outbound import Surroundings, asked
from gatepost.hooks.api import on
from gatepost.hooks.stages import OutMessage
from gatepost.model import Body, Bytes, Path, Recipient
from gatepost.plugins.python import load as load_plugin
from gatepost.testing.rig import Rig
from gatepost.wire.smtp.client_events import Transaction
from unit.delivery.delivery_peer import Peer, polite

MESSAGE = (
    "From: Ann <ann@example.org>\r\nSubject: a test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\n.a line that begins with a dot\r\n..and two\r\nGrüße  aus Köln \r\n\r\n\r\n"
).encode()
RSA, RSA_PEM = make_key(Algorithm.RSA)
ED, ED_PEM = make_key(Algorithm.ED25519)
RECORDS = {"r._domainkey.example.org.": RSA, "e._domainkey.example.org.": ED}


def signing(folder: File, canonical: str) -> Settings:
    (folder / "r.pem").write_bytes(RSA_PEM)
    (folder / "e.pem").write_bytes(ED_PEM)
    (folder / "gatepost.toml").write_text(
        f'hostname = "mx.example.org"\n[[dkim]]\ndomain = "example.org"\ncanonical = "{canonical}"\n'
        'key = [{ selector = "r", file = "r.pem" }, { selector = "e", file = "e.pem" }]\n'
    )
    return load(folder / "gatepost.toml", environ={})


@on("out-message", priority=100)
async def stamped(event: OutMessage) -> None:
    """Somebody who changes what leaves."""
    event.message.headers["Subject"] = "a stamped test"


@on("out-message", priority=100)
async def rewritten(event: OutMessage) -> None:
    """Somebody who puts 8-bit content into what had none."""
    await event.message.replace("Zurück nach Köln\r\n".encode())
    event.message.headers["Content-Transfer-Encoding"] = "8bit"


@asynccontextmanager
async def session(
    settings: Settings, peer: Peer, changing: Callable[..., object] = stamped
) -> AsyncIterator[tuple[Connection, Rig]]:
    rig = Rig([load_signing(settings.dkim), load_plugin(changing)])
    await rig.open()
    around = Surroundings("mx.example.org", lambda: rig.generation.dispatcher, rig.patience, rig.records)
    dialer = Dialer("mx.example.org", outbound=lambda: asked(around))
    connection = await dialer.open(Relay((peer.host,)), peer.host)
    assert isinstance(connection, Connection)
    try:
        yield connection, rig
    finally:
        await connection.close()
        await rig.generation.close()


def verified(mail: bytes) -> list[bool]:
    """What dkimpy says of each signature, of the mail as it came over the wire."""
    content = mail.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
    count = content.count(b"DKIM-Signature:")
    answers = {name.encode(): key.public_record().encode() for name, key in RECORDS.items()}
    return [
        bool(dkim.DKIM(content).verify(at, dnsfunc=lambda name, timeout=5: answers.get(name, b"")))
        for at in range(count)
    ]


@pytest.mark.parametrize("offers", ["PIPELINING,8BITMIME", "PIPELINING"], ids=["8-bit", "seven bits only"])
@pytest.mark.parametrize("canonical", ["relaxed/relaxed", "simple/simple"])
async def test_what_the_next_server_has_is_signed(tmp_path: File, canonical: str, offers: str) -> None:
    content = Bytes(MESSAGE)
    letter = Transaction(
        Path.parse("ann@example.org"), (Recipient(Path.parse("x@y.example")),), content.size, Body.EIGHT_BIT_MIME
    )
    async with Peer(polite(offers=offers)) as peer, session(signing(tmp_path, canonical), peer) as (connection, rig):
        [outcome] = await connection.send(letter, content)
        assert outcome.reply.code == 250, outcome
        assert rig.records.errors == []
    [mail] = peer.mail
    assert b"\r\nSubject: a stamped test\r\n" in mail
    assert mail.isascii() is ("8BITMIME" not in offers)
    assert verified(mail) == [True, True]


@pytest.mark.parametrize("offers", ["PIPELINING,8BITMIME", "PIPELINING"], ids=["8-bit", "seven bits only"])
async def test_8_bit_content_of_a_plugin_is_re_encoded_before_it_is_signed(tmp_path: File, offers: str) -> None:
    content = Bytes(MESSAGE.decode().encode("ascii", "ignore").replace(b"8bit", b"7bit"))
    letter = Transaction(Path.parse("ann@example.org"), (Recipient(Path.parse("x@y.example")),), content.size)
    settings = signing(tmp_path, "relaxed/relaxed")
    async with Peer(polite(offers=offers)) as peer, session(settings, peer, rewritten) as (connection, rig):
        [outcome] = await connection.send(letter, content)
        assert outcome.reply.code == 250, outcome
        assert rig.records.errors == []
    [mail] = peer.mail
    assert mail.isascii() is ("8BITMIME" not in offers)
    assert b"Zur" in mail or b"WnVy" in mail  # the plugin's, in base 64 where that is shorter
    assert verified(mail) == [True, True]
