"""Mail that was collected elsewhere: every plugin is asked, and the memos are kept in the very step of the message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network

import pytest

from gatepost import discard, hangup, on, quarantine, refuse, take, tempfail
from gatepost.app.intake import HouseIntake
from gatepost.collecting.ports import Collected, IntakeLater, NoRoom, TakenAs
from gatepost.model import Bytes, Path, Peer, Recipient
from gatepost.net.inner import InnerStream
from gatepost.plugins.python.loading import load
from gatepost.serving.house import Gate, OpenTo
from gatepost.store.errors import SpoolFailure, SpoolFull
from gatepost.testing.rig import Rig

CONTENT = b"From: eve@elsewhere.example\r\nSubject: hello\r\n\r\n.one\r\ntwo \xe4\r\n"
KEY, MEMO = "collect/a/u1", {"collect/a/u1": b"seen"}
ANN, BOB = "ann@example.org", "bob@example.org"


@asynccontextmanager
async def house(*plugins: object, gates: Sequence[Gate] = (Gate("*", OpenTo.ANYONE),)) -> AsyncIterator[Rig]:
    rig = Rig([load(each) for each in plugins], gates=gates)
    await rig.open()
    try:
        yield rig
    finally:
        await rig.close()


def mail(*to: str, content: bytes = CONTENT, sender: str = "eve@elsewhere.example", **more: object) -> Collected:
    facts: dict[str, object] = {
        "account": "a",
        "content": Bytes(content),
        "sender": Path.parse(sender) if sender else Path(),
        "recipients": tuple(Recipient(Path.parse(one)) for one in to or (ANN,)),
        "peer": Peer(ip_address("203.0.113.9"), 0),
        "helo": "mail.elsewhere.example",
        "received_at": 1_790_000_000.0,
        "memos": MEMO,
    }
    return Collected(**{**facts, **more})


def intake(rig: Rig) -> HouseIntake:
    return HouseIntake(lambda: rig.generation, rig.spool)


async def test_it_goes_the_way_of_all_mail_with_the_client_that_sent_it() -> None:
    seen: list[object] = []

    @on("connect")
    async def connect(event):
        seen.append((str(event.session.peer.address), event.session.listener))

    @on("hello")
    async def hello(event):
        seen.append(event.helo)

    @on("recipient")
    async def recipient(event):
        seen.append(event.recipient.address)

    @on("message")
    async def message(event):
        event.message.headers["X-Seen"] = "yes"

    async with house(connect, hello, recipient, message) as rig:
        taken = await intake(rig).take(mail())
        assert seen == [("203.0.113.9", "collect a"), "mail.elsewhere.example", ANN]
        assert (taken.fate, taken.text) == (TakenAs.ACCEPTED, "")
        [entry] = await rig.spool.entries()
        content = entry.content.read()
        assert str(entry.ticket) == taken.ticket
        assert content.startswith(
            b"Received: from mail.elsewhere.example ([203.0.113.9])\r\n\tby mx.test (Gatepost) with POP3"
        )
        assert content.endswith(b"Subject: hello\r\nX-Seen: yes\r\n\r\n.one\r\ntwo \xe4\r\n")
        assert await rig.spool.memos("") == MEMO
        assert rig.surroundings.counter.in_all == 0


@pytest.mark.parametrize("by", ["mx.test", "MX.test", "other.test", "xmx.test.example"])
async def test_what_the_other_server_wrote_at_its_delivery_goes_unless_it_may_be_a_loop(by: str) -> None:
    there = "Return-Path: <a@b.example>\r\nDelivered-To: ann@example.org\r\n"
    there += f"Received: from x ([192.0.2.1])\r\n\tby {by} with SMTP\r\n"
    async with house() as rig:
        await intake(rig).take(mail(content=there.encode() + CONTENT))
        [entry] = await rig.spool.entries()
        content = entry.content.read()
        assert b"Return-Path" not in content
        assert (b"Delivered-To" in content) is (by.lower() == "mx.test")


@pytest.mark.parametrize("stage", ["connect", "hello", "sender", "recipient", "data", "headers", "message"])
@pytest.mark.parametrize("on_refusal", ["quarantine", "discard"])
async def test_a_refusal_for_good_bounces_nowhere(stage: str, on_refusal: str) -> None:
    @on(stage)
    async def no(event):
        return refuse(550, "5.7.1", "not you")

    async with house(no) as rig:
        taken = await intake(rig).take(mail(on_refusal=on_refusal))
        assert "not you" in taken.text
        assert await rig.spool.memos("") == MEMO
        entries = await rig.spool.entries()
        if on_refusal == "quarantine":
            [entry] = entries
            assert taken.fate is TakenAs.HELD
            assert entry.held is not None and entry.held.startswith("refused: ") and "not you" in entry.held
            assert entry.content.read().endswith(CONTENT)
            assert entry.content.read().count(b"Received: ") == 1
            assert entry.id == taken.ticket
        else:
            assert taken.fate is TakenAs.DISCARDED
            assert entries == []
            [record] = await rig.spool.records()
            assert record[0] == "discarded" and record[3] == ANN and "not you" in str(record[5])


@pytest.mark.parametrize("stage", ["connect", "hello", "sender", "recipient", "data", "headers", "message"])
@pytest.mark.parametrize("answer", [tempfail("later"), hangup("go away")], ids=["tempfail", "hangup"])
async def test_a_refusal_for_now_leaves_everything_as_it_was(stage: str, answer: object) -> None:
    @on(stage)
    async def later(event):
        return answer

    async with house(later) as rig:
        with pytest.raises(IntakeLater):
            await intake(rig).take(mail())
        assert await rig.spool.entries() == [] and await rig.spool.memos("") == {}


@pytest.mark.parametrize("stage", ["recipient", "message"])
async def test_who_is_refused_gets_a_held_copy_in_the_same_step(stage: str) -> None:
    @on("recipient")
    async def at_rcpt(event):
        return refuse(550, "5.1.1", "no bob") if stage == "recipient" and event.recipient.local == "bob" else None

    @on("message")
    async def at_the_end(event):
        if stage == "message":
            return {one: refuse(550, "5.1.1", "no bob") for one in event.recipients if one.local == "bob"}

    async with house(at_rcpt, at_the_end) as rig:
        taken = await intake(rig).take(mail(ANN, BOB))
        assert taken.fate is TakenAs.ACCEPTED
        found = {entry.held: [one.address for one in entry.envelope.recipients] for entry in await rig.spool.entries()}
        assert found.pop(None) == [ANN]
        [(why, whom)] = found.items()
        assert why is not None and "no bob" in why and whom == [BOB]
        assert await rig.spool.memos("") == MEMO


@pytest.mark.parametrize(
    ("verdict", "fate"),
    [(quarantine("spam"), TakenAs.HELD), (discard("spam"), TakenAs.DISCARDED), (take("mine"), TakenAs.ACCEPTED)],
)
async def test_other_verdicts_are_kept_with_the_memos(verdict: object, fate: TakenAs) -> None:
    @on("message")
    async def says(event):
        return verdict

    async with house(says) as rig:
        taken = await intake(rig).take(mail())
        assert taken.fate is fate
        assert taken.text == ("" if fate is TakenAs.ACCEPTED else "spam")
        assert await rig.spool.memos("") == MEMO
        assert len(await rig.spool.entries()) == (fate is TakenAs.HELD)


async def test_a_recipient_without_a_route_is_held_for_a_human() -> None:
    async with house(gates=()) as rig:
        taken = await intake(rig).take(mail())
        assert taken.fate is TakenAs.HELD and "5.7.1" in taken.text


@pytest.mark.parametrize(
    "helo",
    ["", "no name", "[203.0.113.9]", "under_score", "a" * 300, "a" * 5000, "a\0b", "a\rRCPT TO:<x@y>", "\xfc.example"],
)
async def test_a_name_that_is_none_becomes_the_address(helo: str) -> None:
    async with house() as rig:
        assert (await intake(rig).take(mail(helo=helo))).fate is TakenAs.ACCEPTED


@pytest.mark.parametrize("size", [0, 1, 70_000, 1_000_000])
async def test_content_of_any_size_and_shape(size: int) -> None:
    content = b"Subject: x\r\n\r\n" + b"." * size + b"\r\n"
    async with house() as rig:
        await intake(rig).take(mail(content=content))
        [entry] = await rig.spool.entries()
        assert entry.content.read().endswith(content)


SHAPES = {
    "empty": b"",
    "one line end": b"\r\n",
    "no header": b"no header here\r\nmore\r\n",
    "header only": b"Subject: x\r\n",
    "no line end": b"Subject: x\r\n\r\nabc",
    "nul": b"Subject: a\0b\r\n\r\nx\0y\r\n",
    "long lines": b"Subject: " + b"x" * 5000 + b"\r\n\r\n" + b"a" * 300_000 + b"\r\n",
    "hidden end": b"Subject: x\r\n\r\n.\r\n.\r\nQUIT\r\n",
}


@pytest.mark.parametrize("content", SHAPES.values(), ids=SHAPES)
async def test_content_that_is_no_proper_message_comes_as_it_is(content: bytes) -> None:
    async with house() as rig:
        assert (await intake(rig).take(mail(content=content))).fate is TakenAs.ACCEPTED
        [entry] = await rig.spool.entries()
        head = entry.content.read()[: -len(content) or None]
        assert entry.content.read().endswith(content) and head.startswith(b"Received: ") and head.endswith(b"+0000\r\n")


async def test_an_mbox_line_on_top_is_a_field() -> None:  # attack I7
    async with house() as rig:
        await intake(rig).take(mail(content=b"From carl@example.com Sat Jan  1 00:00:00 2026\r\n" + CONTENT))
        [entry] = await rig.spool.entries()
        assert b"+0000\r\nX-Mailbox-Line: From carl@example.com Sat" in entry.content.read()


TOO_MUCH = {
    "size": (b"".join(b"X-%d: %s\r\n" % (number, b"y" * 900) for number in range(400)), "header section"),
    "count": (b"X: y\r\n" * 2000, "header section"),
    "loop": (b"Received: from a by b with SMTP\r\n" * 150, "too many servers"),
}


@pytest.mark.parametrize(("top", "why"), TOO_MUCH.values(), ids=TOO_MUCH)
async def test_what_a_limit_refuses_is_held_whole_with_its_memo(top: bytes, why: str) -> None:
    async with house() as rig:
        taken = await intake(rig).take(mail(content=top + CONTENT))
        assert taken.fate is TakenAs.HELD and why in taken.text
        [entry] = await rig.spool.entries()
        assert entry.content.read().endswith(top + CONTENT)
        assert await rig.spool.memos("") == MEMO


@pytest.mark.parametrize("stage", ["connect", "hello", "sender", "recipient", "data", "headers", "message"])
@pytest.mark.parametrize("on_refusal", ["quarantine", "discard"])
@pytest.mark.parametrize("answer", [tempfail("later"), hangup("go away")], ids=["tempfail", "hangup"])
async def test_who_is_refused_for_now_for_the_last_time_is_held(stage: str, on_refusal: str, answer: object) -> None:
    @on(stage)
    async def later(event):
        return answer

    async with house(later) as rig:
        taken = await intake(rig).take(mail(ANN, BOB, on_refusal=on_refusal, is_last=True))
        assert taken.fate is TakenAs.HELD
        [entry] = await rig.spool.entries()
        assert entry.held is not None and entry.held.startswith("refused: 4")
        assert {one.address for one in entry.envelope.recipients} == {ANN, BOB}
        assert entry.content.read().endswith(CONTENT)
        assert await rig.spool.memos("") == MEMO


async def test_the_last_time_only_whoever_is_refused_for_now_is_held() -> None:
    @on("recipient")
    async def full(event):
        return tempfail("his mailbox is full") if event.recipient.local == "bob" else None

    async with house(full) as rig:
        with pytest.raises(IntakeLater):
            await intake(rig).take(mail(ANN, BOB))
        assert (await intake(rig).take(mail(ANN, BOB, is_last=True, on_refusal="discard"))).fate is TakenAs.ACCEPTED
        found = {
            entry.held is None: [one.address for one in entry.envelope.recipients]
            for entry in await rig.spool.entries()
        }
        assert found == {True: [ANN], False: [BOB]}


async def test_an_address_that_another_server_has_written_opens_no_route() -> None:
    seen: list[str] = []

    @on("message", when={"network": "203.0.113.0/24"})
    async def there(event):
        seen.append(str(event.session.peer.address))

    @on("reply")
    async def said(event):
        if event.verb == "EHLO":
            seen.extend(word for word in ("XCLIENT", "XFORWARD", "AUTH", "STARTTLS") if word in event.reply.text)

    gates = [Gate("*@example.org", OpenTo.ANYONE), Gate("*", networks=(ip_network("203.0.113.0/24"),))]
    async with house(there, said, gates=gates) as rig:
        taken = await intake(rig).take(mail(ANN, "far@elsewhere.example"))
        assert taken.fate is TakenAs.ACCEPTED
        found = {entry.held: [one.address for one in entry.envelope.recipients] for entry in await rig.spool.entries()}
        assert found.pop(None) == [ANN]
        [(why, whom)] = found.items()
        assert whom == ["far@elsewhere.example"] and why is not None and "5.7.1 we do not relay" in why
        assert seen == ["203.0.113.9"]
        assert rig.generation.places["smtp"].house.gates[1].networks  # others' sessions go on as they did


async def test_a_null_sender_and_one_beyond_ascii() -> None:
    async with house() as rig:
        await intake(rig).take(mail(sender=""))
        await intake(rig).take(mail(sender="jörg@elsewhere.example"))
        senders = [str(entry.envelope.sender) for entry in await rig.spool.entries()]
        assert senders == ["", "jörg@elsewhere.example"]


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("error", [SpoolFull("no room"), SpoolFailure("no room")])
async def test_what_cant_be_stored_is_for_later(error: Exception, is_last: bool) -> None:
    async with house() as rig:

        class Full:
            def draft(self, ticket):
                return rig.spool.draft(ticket)

            async def commit(self, *_, **__):
                raise error

        with pytest.raises(NoRoom, match="no room"):
            await HouseIntake(lambda: rig.generation, Full()).take(mail(is_last=is_last))


@pytest.mark.parametrize("is_last", [False, True])
async def test_a_disk_without_room_is_never_the_messages_fault(is_last: bool) -> None:
    @on("sender")
    async def no_room(event):
        return tempfail(452, "4.3.1", "no room")

    async with house(no_room) as rig:
        with pytest.raises(NoRoom):
            await intake(rig).take(mail(is_last=is_last))
        assert await rig.spool.entries() == []


async def test_what_was_said_of_a_message_counts_however_the_session_ends() -> None:
    @on("command")
    async def no_goodbye(event):
        return hangup("go away") if event.line == "QUIT" else None

    async with house(no_goodbye) as rig:
        assert (await intake(rig).take(mail())).fate is TakenAs.ACCEPTED


async def test_who_is_interrupted_leaves_no_session_behind() -> None:
    asked = asyncio.Event()

    @on("message")
    async def hangs(event):
        asked.set()
        await asyncio.Event().wait()

    async with house(hangs) as rig:
        taking = asyncio.create_task(intake(rig).take(mail()))
        await asked.wait()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await asyncio.wait_for(rig.generation.unused(), 5)
        assert await rig.spool.memos("") == {}


async def test_a_large_message_is_never_whole_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    arrive = InnerStream.arrive

    def arriving(stream: InnerStream, data: bytes) -> None:
        arrive(stream, data)
        waiting.append(stream.pending)

    monkeypatch.setattr(InnerStream, "arrive", arriving)
    async with house() as rig:
        await intake(rig).take(mail(content=CONTENT + b"x" * 70 * 16 + b"\r\n" + (b"y" * 78 + b"\r\n") * 40_000))
    assert len(waiting) > 10
    assert max(waiting) <= 512 * 1024
