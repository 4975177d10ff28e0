"""What every maker of mailboxes does, whatever they rest on."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gatepost.model import Bytes, Path, Recipient, Ticket, token_at
from gatepost.store.files import RealFiles
from gatepost.store.mailbox import MaildirMailboxes
from gatepost.store.mailbox_memory import MemoryMailboxes
from gatepost.store.mailboxes import Entry, Mailboxes, MailboxInUse, MailboxSession, MessageGone
from gatepost.store.maildrop import Maildrop

ANN, BOB = "ann@example.org", "bob@example.org"
CONTENT = b"Subject: x\r\n\r\nhello\r\n.\r\n"


class Rig:
    """A maker, and the way mail comes into it."""

    def __init__(self, mailboxes: Mailboxes, put: Callable[[str, bytes, int], Awaitable[None]]) -> None:
        self.mailboxes = mailboxes
        self._put = put
        self._count = 0

    async def deliver(self, content: bytes = CONTENT, user: str = ANN) -> None:
        self._count += 1
        await self._put(user, content, self._count)

    async def open(self, user: str = ANN) -> MailboxSession:
        return await self.mailboxes.open(user)


@pytest.fixture(params=["memory", "maildir"])
async def rig(request, tmp_path) -> AsyncIterator[Rig]:
    if request.param == "memory":
        memory = MemoryMailboxes(os.urandom)
        yield Rig(memory, lambda user, content, _: memory.deliver(user, Bytes(content)))
        await memory.close()
        return
    maildrop = Maildrop(tmp_path, RealFiles())
    mailboxes = MaildirMailboxes(maildrop.mailbox, RealFiles())

    async def put(user: str, content: bytes, number: int) -> None:
        ticket = Ticket(token_at(1_790_000_000_000 + number, 0, 7), 1)
        await maildrop.deliver(user, ticket, Recipient(Path.parse(user)), Bytes(content))

    yield Rig(mailboxes, put)
    await mailboxes.close()
    await maildrop.close()


async def read(session: MailboxSession, entry: Entry) -> bytes:
    content = await session.open_content(entry)
    pieces = []
    while piece := await content.read():
        pieces.append(piece)
    assert await content.read() == b""
    assert all(len(piece) <= 128 * 1024 and not piece.endswith(b"\r") for piece in pieces)
    content.close()
    return b"".join(pieces)


async def test_a_user_without_mail_has_an_empty_mailbox(rig):
    session = await rig.open()
    assert (list(session.messages), session.octets) == ([], 0)
    assert await session.delete([]) == []
    await session.close()


async def test_messages_are_numbered_in_the_order_of_delivery(rig):
    contents = [b"Subject: %d\r\n\r\n%s\r\n" % (number, b"x" * number) for number in range(12)]
    for content in contents:
        await rig.deliver(content)
    session = await rig.open()
    assert [entry.number for entry in session.messages] == [*range(1, 13)]
    assert [entry.size for entry in session.messages] == [*map(len, contents)]
    assert session.octets == sum(map(len, contents))
    assert [await read(session, entry) for entry in session.messages] == contents
    await session.close()


async def test_O4_unique_ids_are_short_printable_and_different(rig):
    for _ in range(20):
        await rig.deliver()
    session = await rig.open()
    uids = [entry.uid for entry in session.messages]
    assert len(set(uids)) == 20
    assert all(0 < len(uid) <= 70 and all(0x21 <= ord(c) <= 0x7E for c in uid) for uid in uids)
    assert all(entry.name.isprintable() for entry in session.messages)
    await session.close()


async def test_O4_unique_ids_stay_and_none_comes_back(rig):
    for _ in range(3):
        await rig.deliver()
    session = await rig.open()
    before = [entry.uid for entry in session.messages]
    assert await session.delete(session.messages[1:]) == []
    await session.close()
    await rig.deliver()
    session = await rig.open()
    first, second = session.messages
    assert first.uid == before[0]
    assert second.uid not in before
    assert (first.number, second.number) == (1, 2)
    await session.close()


async def test_what_comes_during_a_session_is_the_next_ones(rig):
    await rig.deliver(b"first\r\n")
    session = await rig.open()
    await rig.deliver(b"second\r\n")
    assert [await read(session, entry) for entry in session.messages] == [b"first\r\n"]
    assert await session.delete(session.messages) == []
    await session.close()
    session = await rig.open()
    assert [await read(session, entry) for entry in session.messages] == [b"second\r\n"]
    await session.close()


async def test_O3_a_mailbox_has_one_session(rig):
    await rig.deliver()
    session = await rig.open()
    with pytest.raises(MailboxInUse):
        await rig.open(ANN.upper())
    other = await rig.open(BOB)
    await session.close()
    await session.close()
    again = await rig.open()
    with pytest.raises(MailboxInUse):
        await rig.open()
    await again.close()
    await other.close()


async def test_O3_of_many_who_come_at_once_one_gets_it(rig):
    came = await asyncio.gather(*(rig.open() for _ in range(8)), return_exceptions=True)
    [session] = [one for one in came if not isinstance(one, MailboxInUse)]
    await session.close()


async def test_O2_without_delete_everything_stays(rig):
    await rig.deliver()
    session = await rig.open()
    await read(session, session.messages[0])
    await session.close()
    session = await rig.open()
    assert len(session.messages) == 1
    await session.close()


async def test_only_what_was_named_is_removed(rig):
    for number in range(6):
        await rig.deliver(b"%d\r\n" % number)
    session = await rig.open()
    assert await session.delete([session.messages[n] for n in (0, 3, 5)]) == []
    await session.close()
    session = await rig.open()
    assert [await read(session, entry) for entry in session.messages] == [b"1\r\n", b"2\r\n", b"4\r\n"]
    await session.close()


async def test_what_is_removed_twice_is_removed(rig):
    await rig.deliver()
    session = await rig.open()
    entry = session.messages[0]
    assert await session.delete([entry, entry]) == []
    assert await session.delete([entry]) == []
    with pytest.raises(MessageGone):
        await session.open_content(entry)
    await session.close()


@pytest.mark.parametrize("size", [0, 1, 65_534, 65_535, 65_536, 65_537, 131_072, 1_000_000])
async def test_a_message_comes_out_as_it_came_in(rig, size):
    content = b"x" * size + b"\r\n"
    await rig.deliver(content)
    session = await rig.open()
    [entry] = session.messages
    assert entry.size == len(content)
    assert await read(session, entry) == content
    await session.close()


async def test_lines_are_whole_whatever_their_length(rig):
    content = b"".join(b"y" * (number % 7) + b"\r\n" for number in range(100_000))
    await rig.deliver(content)
    session = await rig.open()
    assert await read(session, session.messages[0]) == content
    await session.close()


async def test_several_are_read_at_once_and_left_half_read(rig):
    contents = [b"%d" % number * 100_000 + b"\r\n" for number in range(4)]
    for content in contents:
        await rig.deliver(content)
    session = await rig.open()
    assert await asyncio.gather(*(read(session, entry) for entry in session.messages)) == contents
    half = await session.open_content(session.messages[0])
    await half.read()
    half.close()
    half.close()
    assert await half.read() == b""
    assert await read(session, session.messages[0]) == contents[0]
    await session.close()


async def test_O4_one_life_of_a_server_in_memory_gives_no_id_of_another():
    """Its mail is gone with it, and a client that remembers the ids would take new mail for old."""
    uids = set()
    for _ in range(2):
        memory = MemoryMailboxes(os.urandom)
        await memory.deliver(ANN, Bytes(CONTENT))
        [entry] = (await memory.open(ANN)).messages
        uids.add(entry.uid)
    assert len(uids) == 2


async def test_mail_in_memory_comes_once_by_name_and_with_crlf():
    memory = MemoryMailboxes(os.urandom)
    for _ in range(2):
        await memory.deliver(ANN, Bytes(b"a\nb\r\n"), name="ticket")
    session = await memory.open(ANN)
    [entry] = session.messages
    assert (await read(session, entry), entry.size) == (b"a\r\nb\r\n", 6)
