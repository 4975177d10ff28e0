"""gatepost.send and Server.send: now, through a queue, through a server; who hears of it; what can't be sent."""

from __future__ import annotations

import asyncio
from email import message_from_bytes
from email.message import EmailMessage
from io import BytesIO

import pytest

import gatepost
from gatepost import Progress, QueueError, SendState, Server, SettingsError, send, send_sync
from gatepost.app.sending import Listeners, Sending, next_server
from gatepost.delivery import Destinations, Dialer
from gatepost.delivery.route import Host, Mx, Relay, Security
from gatepost.model import AddressError
from gatepost.net.mx import Exchangers
from gatepost.wire.smtp.client_events import Credentials
from unit.delivery.delivery_peer import Peer, polite
from unit.net.name_server import name_server

HELLO = b"From: ann@here.example\nTo: bob@there.example\nBcc: eve@secret.example\nSubject: hi\n\nhello\n.\n..dots\n"


async def test_via_a_server_every_recipient_has_its_answer():
    script = polite(("RCPT TO:<no@there.example>", "550 5.1.1 nobody"))
    async with Peer(script) as peer:
        sent = await send(
            HELLO, "ann@here.example", ["bob@there.example", "no@there.example"], mode=f"via 127.0.0.1:{peer.port}"
        )
    assert [(one.recipient, one.reply.code, one.is_accepted) for one in sent.results] == [
        ("bob@there.example", 250, True),
        ("no@there.example", 550, False),
    ]
    assert (bool(sent), [one.recipient for one in sent.refused], sent.ticket) == (False, ["no@there.example"], None)
    [mail] = peer.mail
    assert mail.startswith(b"From: ann@here.example\r\nTo: bob@there.example\r\nSubject: hi\r\n")
    assert b"\r\n..\r\n...dots\r\n" in mail
    assert b"secret" not in mail
    assert b"\r\nDate: " in mail
    assert b"\r\nMessage-ID: <" in mail


async def test_progress_tells_the_states_of_the_contract_in_order():
    heard: list[Progress] = []
    large = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + b"0123456789abcde\r\n" * 20_000
    async with Peer(polite()) as peer:
        sent = await send(large, "", "bob@there.example", mode=f"via 127.0.0.1:{peer.port}", progress=heard.append)
    assert sent
    states = [one.state for one in heard]
    assert list(dict.fromkeys(states)) == list(SendState)
    octets = [one.sent for one in heard if one.state is SendState.SENDING]
    assert octets == sorted(octets)
    assert len(octets) > 3
    assert heard[-1].state is SendState.DONE
    assert heard[-1].results == sent.results
    assert {one.size for one in heard} == {max(octets)}


async def test_a_callback_that_fails_is_asked_no_more_and_harms_nothing(caplog):
    heard = []

    def fails(progress: Progress) -> None:
        heard.append(progress)
        raise RuntimeError("no")

    async with Peer(polite()) as peer:
        assert await send(HELLO, "", "bob@there.example", mode=f"via 127.0.0.1:{peer.port}", progress=fails)
    assert len(heard) == 1
    assert "is asked no more" in caplog.text


@pytest.mark.parametrize(
    "form",
    ["bytes", "str", "EmailMessage", "path", "file"],
)
async def test_a_message_in_every_form(form, tmp_path):
    message = EmailMessage()
    message["Subject"] = "hällo"
    message.set_content("grüße\n")
    raw = bytes(message)
    (tmp_path / "m.eml").write_bytes(raw)
    given = {
        "bytes": raw,
        "str": raw.decode(),
        "EmailMessage": message,
        "path": tmp_path / "m.eml",
        "file": BytesIO(raw),
    }[form]
    async with Peer(polite()) as peer:
        assert await send(given, "ann@here.example", "bob@there.example", mode=f"via 127.0.0.1:{peer.port}")
    parsed = message_from_bytes(peer.mail[0], policy=message.policy)
    assert parsed["Subject"] == "hällo"
    assert parsed["From"] == "ann@here.example"
    assert parsed.get_content().splitlines() == ["grüße"]


async def test_a_large_file_is_read_in_pieces_and_its_copy_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    large = tmp_path / "large.eml"
    large.write_bytes(b"Subject: large\n\n" + b"0123456789abcdef" * 4 + b"\n" + b"line of text\n" * 100_000)
    async with Peer(polite()) as peer:
        assert await send(large, "ann@here.example", "bob@there.example", mode=f"via 127.0.0.1:{peer.port}")
    assert peer.mail[0].count(b"line of text\r\n") == 100_000
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_now_goes_to_each_domains_own_server():
    zone = {"there.example": {"MX": ["10 mx.there.example."]}, "mx.there.example": {"A": ["127.0.0.1"]}}
    async with Peer(polite()) as peer, name_server(zone) as (resolver, _):
        mx = Mx(port=peer.port, allow_private=True)
        exchangers = Exchangers(resolver, chance=lambda: 0.5)
        destinations = Destinations(Dialer("here.example"), exchangers=exchangers)
        sending = Sending(destinations, None, "here.example", Listeners(), mx)
        sent = await sending.directly(HELLO, "ann@here.example", ["bob@there.example", "x@nowhere.example"])
        await destinations.close()
    assert [(one.reply.code, one.reply.status) for one in sent.results] == [(250, "2.0.0"), (550, "5.1.2")]
    assert sent.results[0].host == f"mx.there.example[127.0.0.1]:{peer.port}"


async def test_a_server_that_cannot_be_reached_may_be_repeated():
    async with Peer(polite()) as peer:
        port = peer.port
    sent = await send(HELLO, "", "bob@there.example", mode=f"via 127.0.0.1:{port}")
    [one] = sent.results
    assert (one.may_be_repeated, one.reply.code, one.host) == (True, 451, "")
    assert "connection refused" in one.reply.text


async def test_what_cannot_be_sent_is_said_before_anything_is():
    with pytest.raises(AddressError):
        await send(HELLO, "ann@here.example", "not an address")
    with pytest.raises(AddressError, match='"bob" is no address: the address has no domain'):
        await send(HELLO, "ann@here.example", ["eve@there.example", "bob"])
    with pytest.raises(ValueError, match="whose queue is it"):
        await send(HELLO, "", "bob@there.example", mode="queue")
    with pytest.raises(ValueError, match="user and password are for"):
        await send(HELLO, "", "bob@there.example", user="ann", password="secret")
    with pytest.raises(RuntimeError, match="await send"):
        send_sync(HELLO, "", "bob@there.example")
    with pytest.raises(ValueError, match="at least one recipient"):
        await send(HELLO, "ann@here.example", [])
    with pytest.raises(ValueError, match="there is no mode"):
        await send(HELLO, "ann@here.example", "bob@there.example", mode="sometime")
    with pytest.raises(ValueError, match="may be plain"):
        await send(HELLO, "", "bob@there.example", mode="via mx.example", user="ann", password="secret")
    with pytest.raises(TypeError, match="a message is bytes"):
        await send(42, "", "bob@there.example", mode="via 127.0.0.1:9")  # type: ignore[arg-type]
    with pytest.raises(SettingsError):
        await send(HELLO, "", "bob@there.example", hostnam="x")
    with pytest.raises(QueueError, match="no data folder"):
        await send(HELLO, "", "bob@there.example", mode="queue", data=None)


@pytest.mark.parametrize(
    ("where", "hop"),
    [
        ("mx.example", Relay((Host("mx.example", 25),), Security.STARTTLS)),
        ("mx.example:587", Relay((Host("mx.example", 587),), Security.STARTTLS)),
        ("[::1]:2525", Relay((Host("::1", 2525),), Security.STARTTLS)),
        ("::1", Relay((Host("::1", 25),), Security.STARTTLS)),
        ("[::1]", Relay((Host("::1", 25),), Security.STARTTLS)),
    ],
)
def test_where_via_goes(where, hop):
    assert next_server(where) == hop


def test_where_via_cannot_go():
    for where in ("", ":25", "mx.example:", "mx.example:0", "mx.example:99999", "mx.example:smtp"):
        with pytest.raises(ValueError, match="is no server"):
            next_server(where)
    hop = next_server("mx.example", tls="required", user="ann", password="secret")
    assert (hop.tls, hop.auth) == (Security.REQUIRED, Credentials("ann", "secret"))


async def test_a_server_sends_through_its_queue_and_follows():
    heard: list[Progress] = []
    done = asyncio.Event()

    def hear(progress: Progress) -> None:
        heard.append(progress)
        if progress.state is SendState.DONE:
            done.set()

    async with Peer(polite()) as peer:
        route = [{"match": "*", "deliver": f"relay 127.0.0.1:{peer.port}", "recipients": "any"}]
        async with Server(listen=[], route=route) as server:
            sent = await server.send(HELLO, "ann@here.example", "bob@there.example", progress=hear)
            assert sent.ticket is not None
            assert sent.results[0].reply.text == f"queued as {sent.ticket}"
            await asyncio.wait_for(done.wait(), 10)
            told = str(server.explain(sent.ticket))
    [mail] = peer.mail
    assert mail.startswith(b"Received: by ")
    assert f"id {sent.ticket}".encode() in mail
    assert heard[-1].results[0].reply.code == 250
    assert heard[-1].results[0].host == f"127.0.0.1:{peer.port}"
    assert "from   <ann@here.example>  local" in told
    assert "delivered  <bob@there.example>" in told


async def test_a_looping_message_is_not_queued():
    looping = b"Received: by x\r\n" * 101 + b"\r\n"
    async with Server(listen=[], route=[{"match": "*", "deliver": "mx"}]) as server:
        with pytest.raises(ValueError, match="goes round in a loop"):
            await server.send(looping, "ann@here.example", "bob@there.example")
        with pytest.raises(ValueError, match=r"octets, limits\.message_size"):
            await server.send(b"x" * (51 * 2**20), "ann@here.example", "bob@there.example")


def test_the_blocking_form():
    sent = gatepost.send_sync(HELLO, "", "bob@there.example", mode="via 127.0.0.1:1")
    assert not sent


async def test_the_blocking_form_of_a_server_in_a_thread():
    async with Peer(polite()) as peer:
        mode = f"via 127.0.0.1:{peer.port}"

        def work() -> bool:
            with Server().in_thread() as server:
                return bool(server.send(HELLO, "", "bob@there.example", mode=mode))

        assert await asyncio.to_thread(work)


async def test_a_queued_message_has_an_end_of_its_own(tmp_path):
    data = tmp_path / "data"
    route = [{"match": "*", "deliver": "relay 127.0.0.1:1"}]
    sent = await send(HELLO, "", "bob@there.example", mode="queue", expire="24h", data=str(data), route=route)
    async with Server(listen=[], data=str(data), route=route) as server:
        [entry] = await server._running.stores.spool.entries()
        assert (str(entry.ticket), entry.facts["expires"]) == (sent.ticket, "86400.0")
        other = await server.send(HELLO, "", "bob@there.example", expire=60)
        facts = {str(one.ticket): one.facts for one in await server._running.stores.spool.entries()}
        assert facts[other.ticket]["expires"] == "60.0"
        with pytest.raises(ValueError, match="expire is for"):
            await server.send(HELLO, "", "bob@there.example", mode="now", expire="24h")
        with pytest.raises(ValueError, match="expires after more than"):
            await server.send(HELLO, "", "bob@there.example", expire=0)
