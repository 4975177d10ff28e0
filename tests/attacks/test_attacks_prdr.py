"""U1: next servers that answer content for each recipient (PRDR), well and badly, over real sockets.

What the machine alone makes of each reply stands in tests/unit/wire_client; Exim itself in tests/house.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from attacks.test_attacks_outbound import QUICK, Scripted, deliver, letter, swallow, told
from gatepost import Server, on, refuse, tempfail
from gatepost.delivery import Lmtp, Relay
from gatepost.delivery.route import Host
from gatepost.wire.smtp.client_events import Phase
from unit.delivery.delivery_peer import Peer, Script, polite

OFFERS = ["PRDR", "PIPELINING,PRDR", "PIPELINING,CHUNKING,PRDR"]
THREE = ("u@y.example", "v@y.example", "w@y.example")
END = Phase.END_OF_DATA


def answering(*replies: str, offers: str = "PIPELINING,PRDR") -> Script:
    """A server that says this after the content, by DATA or BDAT."""
    return polite((".", "\n".join(replies)), ("BDAT", "\n".join(replies)), offers=offers)


@pytest.mark.parametrize("offers", OFFERS)
async def test_U1_prdr_a_refusal_is_one_recipients_and_the_session_goes_on(offers: str) -> None:
    replies = ("353 each", "250 2.0.0 u", "550 5.7.1 not v", "452 4.2.2 w is full", "250 2.0.0 kept")
    async with Peer(answering(*replies, offers=offers)) as peer:
        one, two = await deliver(Relay((peer.host,)), letter(*THREE), letter())
        assert told(one) == [(250, "2.0.0", END), (550, "5.7.1", END), (452, "4.2.2", END)]
        assert told(two) == [(250, "2.0.0", END)]
        [heard] = peer.heard
        mails = [line for line in heard if line.startswith("MAIL")]
        assert [line.endswith(" PRDR") for line in mails] == [True, False], "one recipient has one answer anyway"
        assert "RSET" not in heard


@pytest.mark.parametrize("offers", OFFERS)
async def test_U1_prdr_a_last_reply_that_refuses_takes_it_from_everybody(offers: str) -> None:
    replies = ("353 each", "250 2.0.0 u", "550 5.7.1 not v", "250 2.0.0 w", "451 4.3.0 disk full")
    async with Peer(answering(*replies, offers=offers)) as one, Peer(polite()) as two:
        [answers] = await deliver(Relay((one.host, two.host)), letter(*THREE))
        assert told(answers) == [(451, "4.3.0", END), (550, "5.7.1", END), (451, "4.3.0", END)]
        assert two.heard == []


@pytest.mark.parametrize("offers", OFFERS)
async def test_U1_prdr_fewer_replies_than_recipients_are_waited_for_and_nobody_has_it(offers: str) -> None:
    """What was meant as the last reply is taken for a recipient's, and never the other way."""
    async with Peer(answering("353 each", "250 u", "250 v", "250 kept", offers=offers)) as one, Peer(polite()) as two:
        [answers] = await deliver(Relay((one.host, two.host)), letter(*THREE), timeouts=QUICK)
        assert told(answers) == [(451, "4.4.2", END)] * 3
        assert two.heard == [], "it may have it: nobody else is given it in the same attempt"


@pytest.mark.parametrize("more", [1, 5])
async def test_U1_prdr_more_replies_than_recipients_end_the_session(more: int) -> None:
    replies = ("353 each", "250 u", "550 5.7.1 not v", "250 w", "250 2.0.0 kept", *(["250 2.0.0 more"] * more))
    async with Peer(answering(*replies), polite()) as peer:
        one, two = await deliver(Relay((peer.host,)), letter(*THREE), letter())
        assert [code for code, _, _ in told(one)] == [250, 550, 250]
        assert told(two) == [(250, "2.0.0", END)]
        assert len(peer.heard) == 2, "what came too early isn't the answer to the next message"


@pytest.mark.parametrize("last", ["421 4.3.2 bye", ""], ids=["421", "lost"])
@pytest.mark.parametrize("heard", range(1, 5))
async def test_U1_prdr_an_end_among_the_replies_leaves_everybody_for_later(heard: int, last: str) -> None:
    replies = ["353 each", "550 5.7.1 not u", "250 v", "250 w"][:heard] + [last] * bool(last)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"250-mx.example\r\n250-PIPELINING\r\n250 PRDR\r\n")
        await reader.readuntil(b"DATA\r\n")
        writer.write(b"250 a\r\n" + b"250 b\r\n" * 3 + b"354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        for reply in replies:  # each in a segment of its own
            writer.write(f"{reply}\r\n".encode())
            await writer.drain()
            await asyncio.sleep(0)
        writer.write_eof()
        await swallow(reader)

    async with Scripted(talk) as peer, Peer(polite()) as two:
        [answers] = await deliver(Relay((peer.host, two.host)), letter(*THREE))
        first, *others = told(answers)
        assert first[0] == (550 if heard > 1 else 421 if last else 451)
        assert others == [(421, "4.3.2", END) if last else (451, "4.4.2", END)] * 2
        assert two.heard == []


@pytest.mark.parametrize("replies", [("353 each", "250 u", "353 again"), ("353 each", "354 go on"), ("354 more",)])
async def test_U1_prdr_3xx_out_of_place_are_no_answers(replies: tuple[str, ...]) -> None:
    async with Peer(answering(*replies, "250 v", "250 w", "250 kept")) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter(*THREE))
        assert told(answers) == [(451, "4.5.0", END)] * 3
        assert "QUIT" not in peer.heard[0]


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
async def test_U1_prdr_353_that_nobody_asked_for(lmtp: bool) -> None:
    """Without the offer, and where each has an answer anyway."""
    replies = ("353 each", "250 u", "250 v", "250 w", "250 kept")
    async with Peer(answering(*replies, offers="PIPELINING,PRDR" if lmtp else "PIPELINING")) as peer:
        [answers] = await deliver((Lmtp if lmtp else Relay)((peer.host,)), letter(*THREE))
        assert told(answers) == [(451, "4.5.0", END)] * 3
        assert not any("PRDR" in line for line in peer.heard[0])


async def test_U1_prdr_isnt_asked_for_where_all_have_it_or_nobody() -> None:
    async with Peer(answering("250 2.0.0 kept")) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter(*THREE, is_for_all=True))
        assert told(answers) == [(250, "2.0.0", END)] * 3
        assert not any("PRDR" in line for line in peer.heard[0])


@pytest.mark.parametrize("chunking", [False, True])
@pytest.mark.parametrize("everybody", [False, True])
async def test_our_own_server_answers_for_each(everybody: bool, chunking: bool) -> None:
    @on("message")
    async def picky(event: Any) -> Any:
        if everybody:
            return refuse(550, "5.7.1", "not here")
        says = {"v": refuse(550, "5.7.1", "not v"), "w": tempfail(451, "4.7.1", "not w today")}
        return {one: says[one.local] for one in event.recipients if one.local in says}

    where = {"match": "*", "for": "anyone", "deliver": "discard"}
    smtp = {"chunking": chunking}
    async with Server(hostname="mx.example", route=[where], smtp=smtp, plugins=[picky]) as server:
        [answers] = await deliver(Relay((Host(server.host, server.port),)), letter(*THREE))
        said = (
            [(550, "5.7.1", END)] * 3 if everybody else [(250, "2.0.0", END), (550, "5.7.1", END), (451, "4.7.1", END)]
        )
        assert told(answers) == said
