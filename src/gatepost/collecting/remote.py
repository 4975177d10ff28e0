"""A session on another server, by POP3: the one maker of `ports.Remote` there is.

Strategy: `remote_dialogue` moves the octets, `remote_login` opens the maildrop, this file asks for what is in it. A
message goes through in pieces and is never held; one that turns out too large, or that nobody wants to its end, is
passed over before the next command, so that the session can go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gatepost.collecting.ports import Found, Login, Refused, Remote, RemoteError, Talk, TooLarge, Trouble
from gatepost.collecting.remote_dialogue import Dialogue, trouble, words
from gatepost.collecting.remote_login import Contexts, greet
from gatepost.net import Connector
from gatepost.net.proxies import Via
from gatepost.wire.pop3.client_events import Answered, Complete, Names, Sizes
from gatepost.wire.pop3.client_states import Ask
from gatepost.wire.pop3.replies import Reply

MAX_HEADER = 256 * 1024  # octets of a header section


class Remotes:
    """Opens sessions; keeps TLS contexts, and which addresses were dead. Belongs to one event loop."""

    def __init__(self, *, via: Via | None = None) -> None:
        """`via` is a proxy to connect through."""
        self._via = via
        self._connector = Connector()
        self._contexts = Contexts()

    async def connect(self, login: Login, talk: Talk | None = None) -> Remote:
        """A session that is logged in. RemoteError says why there is none; `login.token` may raise what it wants."""
        token = "" if login.token is None else await login.token()
        try:
            stream = await self._connector.connect(login.host, login.port, timeout=login.connect_s, via=self._via)
        except OSError as error:
            raise RemoteError(f"{login.host}:{login.port}: {words(error)}", Trouble.LOST) from error
        dialogue = Dialogue(login.host, stream, login.command_s, talk)
        try:
            await greet(dialogue, login, self._contexts, token)
        except BaseException:
            await dialogue.hang_up()
            raise
        return PopRemote(dialogue)


async def connect(login: Login, talk: Talk | None = None) -> Remote:
    """As Remotes.connect, by one that remembers nothing."""
    return await Remotes().connect(login, talk)


class PopRemote:
    """One session. Invariant: nothing is deleted on the server unless `quit` has returned or was on its way."""

    __slots__ = ("_dialogue", "_has_top", "_has_uidl")

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        offered = dialogue.client.capabilities
        self._has_uidl = not offered.are_known or "UIDL" in offered
        self._has_top = not offered.are_known or "TOP" in offered

    @property
    def has_uidl(self) -> bool:
        """Whether messages have a name that stays: what the server says of itself, known for sure after `messages`."""
        return self._has_uidl

    @property
    def has_top(self) -> bool:
        """Whether a header can be had without its body: what the server says of itself, until it refuses one."""
        return self._has_top

    async def messages(self) -> list[Found]:
        """Everything there is, whole, in the server's order. UIDL is asked for in any case: not every CAPA is true."""
        dialogue = self._dialogue
        await dialogue.before("LIST")
        dialogue.client.sizes()
        await dialogue.before("UIDL")
        dialogue.client.names()
        sizes: dict[int, int] | None = {}
        names: dict[int, str | None] = {}
        due = 2
        while due:
            match await dialogue.next_event():
                case Sizes(entries):
                    assert sizes is not None
                    sizes.update(entries)
                case Names(entries):
                    names.update(entries)
                case Complete(ask):
                    due -= 1
                    if ask is Ask.UIDL:
                        self._has_uidl = True
                case Answered(ask, reply) if not reply.is_positive:
                    due -= 1
                    if ask is Ask.LIST:
                        sizes = None
                    elif sizes:  # an empty maildrop may be a reason to say no
                        self._has_uidl = False
                case _:
                    pass
        if sizes is None:
            await self._must_be_empty()
            return []
        return [Found(number, size, names.get(number)) for number, size in sizes.items()]

    async def _must_be_empty(self) -> None:
        """LIST was refused, which some servers do where there is nothing."""
        await self._dialogue.before("STAT")
        self._dialogue.client.stat()
        reply = await self._dialogue.answer()
        if not reply.is_positive or reply.text.split(" ")[0].strip("0"):
            raise self._dialogue.over("it doesn't say what messages there are", Trouble.PROTOCOL)

    async def header(self, number: int) -> bytes | None:
        """The header section (TOP n 0) without the empty line after it, CRLF lines, cut where it is too large.

        None where the server can't. One that gives the body too isn't listened to any further.
        """
        if not self._has_top:
            return None
        dialogue = self._dialogue
        await dialogue.before(f"TOP {number} 0")
        dialogue.client.top(number)
        if not (await dialogue.answer()).is_positive:
            self._has_top = False
            return None
        header = bytearray(b"\r\n")  # a line end is thought before it: the empty line may be the first
        while (data := await dialogue.content()) is not None:
            at = max(0, len(header) - 3)
            header += data
            if (end := header.find(b"\r\n\r\n", at)) >= 0:
                return bytes(header[2 : end + 2])
            if len(header) > MAX_HEADER:
                return bytes(header[2 : header.rfind(b"\n", 0, MAX_HEADER) + 1])
        return bytes(header[2:])

    async def retrieve(self, number: int, limit: int) -> AsyncIterator[bytes]:
        """The message in pieces: CRLF lines, dots un-stuffed. Raises TooLarge beyond `limit` octets, and Refused."""
        dialogue = self._dialogue
        await dialogue.before(f"RETR {number}")
        dialogue.client.retrieve(number)
        _must(await dialogue.answer())
        size = 0
        while (data := await dialogue.content()) is not None:
            size += len(data)
            if size > limit:
                raise TooLarge(f"the message has more than {limit} octets")
            yield data

    async def delete(self, number: int) -> None:
        """Mark it; it is gone when `quit` has returned. Raises Refused."""
        await self._dialogue.before(f"DELE {number}")
        self._dialogue.client.delete(number)
        _must(await self._dialogue.answer())

    async def delete_all(self, numbers: Sequence[int]) -> list[int]:
        """Mark them all, many at a time where the server takes it; which of them it refused."""
        dialogue = self._dialogue
        for number in numbers:
            await dialogue.before(f"DELE {number}")
            dialogue.client.delete(number)
        refused = []
        for number in numbers:
            if not (await dialogue.answer()).is_positive:
                refused.append(number)
            dialogue.move_deadline()
        return refused

    async def quit(self) -> None:
        """End the session; what was marked is gone when this has returned, and not otherwise."""
        dialogue = self._dialogue
        try:
            await dialogue.before("QUIT")
            dialogue.client.quit()
            reply = await dialogue.answer()
        except BaseException:
            await dialogue.hang_up()
            raise
        await dialogue.close()
        if not reply.is_positive:  # rfc1939#6: some may be gone and some not
            raise RemoteError(f"{dialogue.host}: QUIT: {reply}", trouble(reply, Trouble.TEMPORARY))

    async def abort(self) -> None:
        """Hang up: nothing that was marked is deleted. Never raises."""
        await self._dialogue.hang_up()


def _must(reply: Reply) -> None:
    if not reply.is_positive:
        raise Refused(str(reply))
