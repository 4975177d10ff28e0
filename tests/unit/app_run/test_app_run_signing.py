"""`[[dkim]]` in a server that runs: what goes to the world is signed, what anyone may have brought isn't."""

from __future__ import annotations

import asyncio
import smtplib
from pathlib import Path

import dkim

from gatepost import Server
from gatepost.content.dkim_keys import Algorithm, load_key, make_key
from unit.delivery.delivery_peer import Peer, polite


async def test_who_is_signed_for(tmp_path: Path) -> None:
    pem = make_key(Algorithm.RSA)[1]
    (tmp_path / "key.pem").write_bytes(pem)
    record = load_key(pem).public_record().encode()
    async with Peer(polite(), polite()) as inner, Peer(polite(), polite()) as world:
        server = Server(
            hostname="gate.example.org",
            route=[
                {"match": "*@example.org", "deliver": f"relay {inner.host}", "for": "anyone", "recipients": "any"},
                {"match": "*", "deliver": f"relay {world.host}", "for": ["127.0.0.0/8"]},
            ],
            dkim=[{"domain": "example.org", "key": [{"selector": "s1", "file": str(tmp_path / "key.pem")}]}],
        )
        async with server:

            def send(sender: str) -> str:
                with smtplib.SMTP(server.host, server.port, "client.example", timeout=10) as client:
                    client.ehlo()
                    client.mail(sender)
                    client.rcpt("bob@example.org")
                    client.rcpt("x@y.example")
                    said = client.data(f"From: {sender}\r\nSubject: hello\r\n\r\nhello\r\n")[1].decode()
                    return said.rpartition(" ")[2]

            ticket = await asyncio.to_thread(send, "ann@example.org")
            await inner.until(lambda: len(inner.mail) == 1)
            await world.until(lambda: len(world.mail) == 1)
            story = str(server.explain(ticket))
            await asyncio.to_thread(send, "eve@elsewhere.example")
            await world.until(lambda: len(world.mail) == 2)
            await inner.until(lambda: len(inner.mail) == 2)
    ours, theirs = world.mail
    assert dkim.verify(ours.removesuffix(b".\r\n"), dnsfunc=lambda name, timeout=5: record)
    assert [mail for mail in (theirs, *inner.mail) if b"DKIM-Signature" in mail] == []
    assert "dkim=s1._domainkey.example.org" in story
    assert "dkim=unsigned: anyone may have sent it" in story
