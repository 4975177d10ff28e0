"""Which stages mail passes by where it comes from: what docs/stages.md says is what happens."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from gatepost import Server, on
from gatepost.hooks import stages
from unit.delivery.delivery_peer import Peer, polite

GENERATE = Path(__file__).parents[3] / "docs" / "generate.py"
HELLO = b"Subject: hi\r\n\r\nhello\r\n"
BY_CLIENT = {stages.Connect, stages.Hello, stages.Sender, stages.Recipient, stages.Data, stages.Headers, stages.Message}
OPTIONAL = {stages.Auth}  # who doesn't authenticate isn't asked about


@pytest.fixture(scope="module")
def origins():
    spec = spec_from_file_location("docs_generate_origins", GENERATE)
    module = sys.modules["docs_generate_origins"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ORIGINS


def listening(seen, transactions=()):
    """A hook at every stage that remembers where it was asked."""
    hooks = []
    for stage in stages.STAGES.values():

        @on(stage, inline=True)
        def hook(event):
            seen.setdefault(str(getattr(event, "sender", "")), set()).add(type(event))

        hook.__name__ = f"at_{stage.name.replace('-', '_')}"
        hooks.append(hook)
    return hooks


def passed(seen):
    return set().union(*seen.values())


async def by_client(port, *, hello="EHLO", to="bob@there.example"):
    """One message from a client; the reply to its content."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def heard():
        while (line := await reader.readline())[3:4] == b"-":
            pass
        return line.decode()

    await heard()
    for line in (f"{hello} client.example", "MAIL FROM:<me@here.example>", f"RCPT TO:<{to}>", "DATA"):
        writer.write(line.encode() + b"\r\n")
        await heard()
    writer.write(HELLO + b".\r\n")
    reply = await heard()
    writer.write(b"QUIT\r\n")
    await heard()
    writer.close()
    await writer.wait_closed()
    return reply


def route(peer, **more):
    deliver = {"by": "relay", "hosts": [f"127.0.0.1:{peer.port}"], "tls": "none"}
    return [{"match": "*@there.example", "deliver": deliver, "recipients": "any", **more}]


@pytest.mark.parametrize(("protocol", "hello"), [("smtp", "EHLO"), ("lmtp", "LHLO")])
@pytest.mark.parametrize("handover", ["queue", "before-reply"])
async def test_from_a_client(protocol, hello, handover, origins):
    seen = {}
    listen = [{"name": "mx", "address": "127.0.0.1:0", "protocol": protocol}]
    async with Peer(polite()) as peer:
        how = {"handover": handover} if handover == "before-reply" else {}
        async with Server(listen=listen, route=route(peer, **how), plugins=listening(seen)) as server:
            assert (await by_client(server.port, hello=hello)).startswith("250")
            await peer.until(lambda: len(peer.mail) == 1)
    row = "a client, by SMTP, submission or LMTP"
    if handover == "before-reply":
        row = "a client, handed over to the next server before the 250"
    assert passed(seen) | OPTIONAL == origins[row]


@pytest.mark.parametrize("mode", ["queue", "via"])
async def test_from_a_program(mode, origins):
    seen = {}
    async with Peer(polite()) as peer, Server(listen=[], route=route(peer), plugins=listening(seen)) as server:
        how = f"via 127.0.0.1:{peer.port}" if mode == "via" else mode
        await server.send(HELLO, "me@here.example", "bob@there.example", mode=how)
        await peer.until(lambda: len(peer.mail) == 1)
    row = "`Server.send` with `now` or `via`" if mode == "via" else "`Server.send`, `gatepost send --queue`, `sendmail`"
    assert passed(seen) == origins[row]


async def test_a_report_of_our_own(origins):
    seen = {}
    script = polite(("RCPT TO:<no@*", "550 5.1.1 nobody"), ("RCPT TO:<no@there.example>", "550 5.1.1 nobody"))
    async with Peer(script) as peer, Server(listen=[], route=route(peer), plugins=listening(seen)) as server:
        await server.send(HELLO, "me@there.example", "no@there.example")
        await peer.until(lambda: len(peer.mail) == 1)
        await peer.until(lambda: "." in peer.heard[-1])
    assert b"nobody" in peer.mail[0]
    about_reports = seen[""] & stages.AFTERWARDS
    assert about_reports == set()
    assert seen[""] | {stages.OutSession} == set(origins["reports of our own: failures, delays, successes"])
