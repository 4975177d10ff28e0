"""A maildrop elsewhere and a house, in memory: what collecting is tried with. Each can be cut short at any step."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gatepost.collecting.accounts import Account
from gatepost.collecting.collector import House
from gatepost.collecting.ports import (
    Collected,
    Found,
    IntakeLater,
    Login,
    NoRoom,
    Refused,
    RemoteError,
    Taken,
    TakenAs,
    TooLarge,
    Trouble,
)
from gatepost.model import Envelope, Path, Ticket
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Deposit

NOW = 1_790_000_000.0
DAY = 86400.0
TOKEN = "06HK3M-9Q7TZA"


def message(text: str, *, top: str = "Return-Path: <carl@example.com>\r\n") -> bytes:
    return f"{top}From: carl@example.com\r\nSubject: {text}\r\n\r\nIt is {text}.\r\n".encode()


def account(**facts) -> Account:
    login = facts.pop("login", Login("pop.example.net", 995, "implicit", "ann", "secret"))
    return Account(facts.pop("name", "isp"), login, facts.pop("to", Path.parse("ann@example.org")), **facts)


class Cut(BaseException):
    """The process has died here."""


class Steps:
    """Counts every step of both sides; at one of them the process dies."""

    def __init__(self, die_at: int = 0) -> None:
        self.count = 0
        self.die_at = die_at
        self.names: list[str] = []

    def step(self, name: str) -> None:
        self.count += 1
        self.names.append(name)
        if self.count == self.die_at:
            raise Cut(name)


@dataclass
class Maildrop:
    """The other server's; `messages` are (UIDL, content, size in the listing or None for the true one)."""

    messages: list[tuple[str | None, bytes]] = field(default_factory=list)
    uidl: bool = True
    top: bool = True
    sizes: dict[bytes, int] = field(default_factory=dict)
    refused: set[bytes] = field(default_factory=set)
    retrieved: list[bytes] = field(default_factory=list)
    lost_after: int = -1
    """So many messages are given, then the connection breaks."""
    keeps_all: bool = False
    """It says yes to deletions and does nothing."""
    trouble: RemoteError | None = None
    sessions: int = 0
    steps: Steps = field(default_factory=Steps)

    def add(self, *contents: bytes) -> None:
        for content in contents:
            self.messages.append((f"uid{len(self.messages)}-{hash(content) & 0xFFFF}", content))

    @property
    def contents(self) -> list[bytes]:
        return [content for _, content in self.messages]

    async def connect(self, login, talk):
        self.steps.step("connect")
        if self.trouble is not None:
            raise self.trouble
        self.sessions += 1
        return Session(self)


class Session:
    """One session, which sees the maildrop as it was."""

    def __init__(self, maildrop: Maildrop) -> None:
        self.drop = maildrop
        self.has_uidl, self.has_top = maildrop.uidl, maildrop.top
        self.seen = list(maildrop.messages)
        self.marked: set[int] = set()
        self.given = 0
        self.is_over = False

    async def messages(self) -> list[Found]:
        self.drop.steps.step("list")
        return [
            Found(at, self.drop.sizes.get(content, len(content)), uid if self.has_uidl else None)
            for at, (uid, content) in enumerate(self.seen, 1)
        ]

    async def header(self, number: int) -> bytes | None:
        self.drop.steps.step("top")
        assert self.has_top
        return self.seen[number - 1][1].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    async def retrieve(self, number: int, limit: int) -> AsyncIterator[bytes]:
        self.drop.steps.step("retrieve")
        content = self.seen[number - 1][1]
        if content in self.drop.refused:
            raise Refused("no such message")
        if self.given == self.drop.lost_after:
            raise RemoteError("the connection broke off", Trouble.LOST)
        self.given += 1
        self.drop.retrieved.append(content)
        for at in range(0, len(content), 50):
            if at + 50 > limit:
                raise TooLarge
            yield content[at : at + 50]

    async def delete(self, number: int) -> None:
        self.drop.steps.step("delete")
        self.marked.add(number)

    async def quit(self) -> None:
        self.drop.steps.step("quit")
        if not self.drop.keeps_all:
            gone = [self.seen[number - 1] for number in self.marked]
            self.drop.messages = [one for one in self.drop.messages if one not in gone]
        self.is_over = True
        self.drop.steps.step("quit answered")

    async def abort(self) -> None:
        self.is_over = True


class Home:
    """The house: what was taken in is durable, whatever dies afterwards."""

    def __init__(self, maildrop: Maildrop, *, now: float = NOW) -> None:
        self.maildrop = maildrop
        self.time = now
        self.spool = memory_spool(lambda: self.time)
        self.taken: list[Collected] = []
        self.contents: list[bytes] = []
        self.later: set[bytes] = set()
        self.fate = TakenAs.ACCEPTED
        self.room = 1
        self.asked = 0
        self._count = 0

    def house(self) -> House:
        return House(self.maildrop.connect, self, self, self._draft, lambda: self.time)

    def _draft(self):
        self._count += 1
        return self.spool.draft(Ticket(TOKEN, self._count))

    async def take(self, collected: Collected) -> Taken:
        steps = self.maildrop.steps
        steps.step("take")
        self.asked += 1
        content = b"".join(collected.content.chunks())
        if not self.room:
            raise NoRoom("no room")
        if content in self.later and not collected.is_last:
            raise IntakeLater("451 4.7.1 come back later")
        ticket = Ticket(TOKEN, 1000 + len(self.taken))
        envelope = Envelope(collected.sender, collected.recipients)
        deposit = Deposit(ticket, envelope, collected.content, collected.received_at)
        await self.spool.commit([deposit], memos=collected.memos)
        self.taken.append(collected)
        self.contents.append(content)
        steps.step("taken")
        return Taken(str(ticket), self.fate)

    async def commit(self, deposits, *, records=(), memos=None) -> None:
        self.maildrop.steps.step("note")
        await self.spool.commit(deposits, records=records, memos=memos or {})
        self.maildrop.steps.step("noted")

    async def memos(self, prefix: str) -> dict[str, bytes]:
        return await self.spool.memos(prefix)
