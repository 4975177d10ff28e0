"""O1 to O6, T1 to T3, R6, R13: bad POP3 clients, over real sockets where TLS, locks or restarts are meant.

What the machine alone makes of bytes stands in tests/laws and tests/scenes/pop3_machine, maildrops that others change
in tests/unit/store_mailbox, the client's side in its own file.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from argon2 import PasswordHasher

from gatepost import Server
from gatepost.model import Bytes
from unit.serving_pop3.pop3_talk import MESSAGES, SIZES, House, body, logged_in, mailboxes, pop_rig

USER = "ann@example.org"
PASSWORD = "correct horse: battéry 🔑"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
NONE = "-ERR no such message"


# ── O1: numbers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", ["0", "-1", "4", "2147483648", "4294967297", "18446744073709551617", "9" * 200])
async def test_O1_a_number_that_no_message_has(number: str) -> None:
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        for line in (f"LIST {number}", f"UIDL {number}", f"RETR {number}", f"TOP {number} 1", f"DELE {number}"):
            assert (await client.command(line)).startswith("-ERR"), line
        assert await client.command("STAT") == f"+OK 3 {sum(SIZES)}"


async def test_O1_a_message_that_is_marked_isnt_there() -> None:
    async with pop_rig(await mailboxes()) as rig:
        client = await logged_in(rig)
        await client.command("DELE 2")
        for line in ("LIST 2", "UIDL 2", "RETR 2", "TOP 2 0", "DELE 2"):
            assert (await client.command(line)).startswith(NONE), line
        assert [line.split()[0] for line in await client.listing("LIST")] == ["1", "3"]
        await client.command("RSET")
        assert body(await client.listing("RETR 2")) == MESSAGES[1]


@pytest.mark.parametrize(("lines", "told"), [(0, 0), (1, 1), (2, 2), (3, 3), (99, 3), (2**31, 3), (2**64, 3)])
async def test_O1_F7_top_counts_lines_and_stuffs_dots(lines: int, told: int) -> None:
    async with pop_rig(await mailboxes()) as rig:
        client = await logged_in(rig)
        header, text = MESSAGES[1].split(b"\r\n\r\n")
        wanted = header + b"\r\n\r\n" + b"".join(text.splitlines(keepends=True)[:told])
        assert body(await client.listing(f"TOP 2 {lines}")) == wanted


# ── O2: nothing is deleted but by QUIT ─────────────────────────────────────────────────────────────────────────────


async def test_O2_a_connection_lost_within_a_message_rolls_back() -> None:
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        await client.command("DELE 1")
        client.send(b"RETR 3\r\n")
        assert (await client.reply()).startswith("+OK")
        client.line.lose()
        await rig.settled()
        session = await kept.open(USER)
        assert [entry.size for entry in session.messages] == SIZES
        await session.close()


async def test_O2_quit_that_isnt_one_deletes_nothing() -> None:
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        await client.command("DELE 1")
        for line in ("QUIT now", "QUITE", "QUI", "RSET QUIT", "NOOP QUIT"):
            assert (await client.command(line)).startswith("-ERR"), line
        client.line.end_of_file()
        await rig.settled()
        assert (await kept.open(USER)).octets == sum(SIZES)


# ── a real server ──────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def serving(folder: Path, **pop3: Any) -> AsyncIterator[Server]:
    """A server with Maildirs in `folder`, and no patience for failed logins worth waiting for."""
    pop = {"name": "pop", "address": "127.0.0.1:0", "protocol": "pop3", "auth_without_tls": True}
    async with Server(
        hostname="pop.test",
        data=str(folder / "data"),
        listen=[pop],
        user=[{"name": USER, "password": HASH}],
        route=[{"match": "*@example.org", "deliver": "maildir"}],
        pop3={"failure_delay": 0, **pop3},
    ) as server:
        yield server


class Caller:
    """A client that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def line(self) -> str:
        return (await self.reader.readline()).decode().rstrip()

    async def say(self, line: str) -> str:
        self.writer.write(line.encode() + b"\r\n")
        return await self.line()

    async def listing(self, line: str) -> list[str]:
        assert (await self.say(line)).startswith("+OK")
        found = []
        while (said := await self.line()) != ".":
            found.append(said)
        return found

    async def log_in(self) -> str:
        await self.say(f"USER {USER}")
        return await self.say(f"PASS {PASSWORD}")


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        caller = Caller(reader, writer)
        assert (await caller.line()).startswith("+OK")
        yield caller
    finally:
        writer.close()


def fill(folder: Path, count: int) -> Path:
    box = folder / "data" / "mail" / "example.org" / "ann"
    for name in ("new", "cur", "tmp"):
        (box / name).mkdir(parents=True)
    for number in range(count):
        (box / "new" / f"{1_790_000_000 + number}.M1P1.other").write_bytes(b"Subject: x\n\nhello\n")
    return box


async def test_O3_of_many_at_once_one_has_the_maildrop(tmp_path: Path) -> None:
    fill(tmp_path, 3)

    async def attempt(port: int, said: list[str], go_on: asyncio.Event) -> None:
        async with calling(port) as caller:
            said.append(await caller.log_in())
            await go_on.wait()

    async with serving(tmp_path) as server:
        said: list[str] = []
        go_on = asyncio.Event()
        attempts = [asyncio.create_task(attempt(server.port, said, go_on)) for _ in range(12)]
        while len(said) < 12:
            await asyncio.sleep(0)
        assert sum(line.startswith("+OK 3 messages") for line in said) == 1
        assert sum(line.startswith("-ERR [IN-USE]") for line in said) == 11
        go_on.set()
        await asyncio.gather(*attempts)


async def test_O4_unique_ids_stay_over_a_restart_and_when_another_program_reads(tmp_path: Path) -> None:
    box = fill(tmp_path, 4)
    seen = []
    for _ in range(3):
        async with serving(tmp_path) as server, calling(server.port) as caller:
            assert (await caller.log_in()).startswith("+OK 4 messages")
            seen.append([line.split()[1] for line in await caller.listing("UIDL")])
            for path in sorted((box / "new").iterdir())[:2]:  # within the session
                path.rename(box / "cur" / f"{path.name}:2,S")
            assert "hello" in await caller.listing("RETR 1")
            await caller.say("QUIT")
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == 4
    assert all(0 < len(uid) <= 70 and all("!" <= c <= "~" for c in uid) for uid in seen[0])


# ── O5: logins ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Hearing(House):
    """Remembers the passwords that it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str]] = []

    async def verify(self, name: str, password: str) -> str | None:
        self.heard.append((name, password))
        return None


@pytest.mark.parametrize("password", ["a b", " leading", "trailing ", "  ", "ünï cödé 🔑", "PASS x", "=", "*"])
async def test_O5_a_password_is_what_follows_the_blank(password: str) -> None:
    users = Hearing()
    async with pop_rig(await mailboxes(), users=users) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command(f"USER {USER}")
        assert (await client.command(f"PASS {password}")).startswith("-ERR [AUTH]")
        assert users.heard == [(USER, password)]


async def test_O5_a_password_that_isnt_utf8_asks_nobody() -> None:
    users = Hearing()
    async with pop_rig(await mailboxes(), users=users) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command(f"USER {USER}")
        client.send(b"PASS caf\xe9\r\n")
        assert (await client.reply()).startswith("-ERR")
        assert users.heard == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_O5_an_exchange_that_is_cancelled_leaves_nothing(mechanism: str) -> None:
    users = Hearing()
    async with pop_rig(await mailboxes(), users=users) as rig:
        client = rig.pick_up()
        await client.reply()
        assert (await client.command(f"AUTH {mechanism}")).startswith("+ ")
        assert (await client.command("*")).startswith("-ERR")
        secret = base64.b64encode(b"\0ann@example.org\0secret").decode()
        assert (await client.command(secret)).startswith("-ERR")  # a command now
        assert (await client.command("STAT")).startswith("-ERR log in first")
        told = str(rig.records.entries)
        assert users.heard == [] and secret not in told


# ── O6: everything at once ─────────────────────────────────────────────────────────────────────────────────────────

WHOLE = (
    b"CAPA\r\nUSER ann@example.org\r\nPASS gro.elpmaxe@nna\r\nSTAT\r\nLIST\r\nUIDL 1\r\nTOP 1 0\r\nRETR 2\r\nNOPE\r\n"
    b"DELE 1\r\nRETR 1\r\nRSET\r\nDELE 2\r\nNOOP\r\nQUIT\r\nSTAT\r\n"
)


async def heard_after(*pieces: bytes) -> tuple[bytes, list[int]]:
    """All that is said after these segments, and the sizes of what is left."""
    kept = await mailboxes(*MESSAGES[:2])
    async with pop_rig(kept) as rig:
        client = rig.pick_up()
        said = b""
        for piece in pieces:
            client.send(piece)
            for _ in range(3):  # the session takes this segment alone
                await asyncio.sleep(0)
        while data := await client.line.heard():
            said += data
        await rig.settled()
        session = await kept.open(USER)
        await session.close()
        return said, [entry.size for entry in session.messages]


async def test_O6_cut_at_every_octet_it_is_the_same_conversation() -> None:
    wanted = await heard_after(WHOLE)
    assert wanted[1] == SIZES[:1]
    assert wanted[0].count(b"\r\n.\r\n") == 4 and wanted[0].endswith(b"+OK goodbye\r\n")
    for at in range(1, len(WHOLE)):
        assert await heard_after(WHOLE[:at], WHOLE[at:]) == wanted, at
    assert await heard_after(*(bytes((octet,)) for octet in WHOLE)) == wanted


async def test_O6_who_asks_for_everything_at_once_lets_others_be_served() -> None:
    kept = await mailboxes(*MESSAGES[:2])
    await kept.deliver("bob@example.org", Bytes(MESSAGES[0]))
    async with pop_rig(kept) as rig:
        greedy, other = await logged_in(rig), await logged_in(rig, "bob@example.org")
        count = 2_000
        greedy.send(b"RETR 1\r\n" * count + b"QUIT\r\n")
        assert (await other.command("NOOP")).startswith("+OK")
        assert not rig._sessions[0].done(), "the other had to wait until all was sent"
        said = b""
        while data := await greedy.line.heard():
            said += data
        assert said.count(MESSAGES[0]) == count


# ── T1 to T3: STLS ─────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def certified(folder: Path) -> Iterator[ssl.SSLContext]:
    """A certificate in files that the settings name; and who trusts it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "chain.pem"))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    yield trusting


@asynccontextmanager
async def with_stls(folder: Path) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    with certified(folder) as trusting:
        pop = {"name": "pop", "address": "127.0.0.1:0", "protocol": "pop3", "tls": "starttls"}
        async with Server(
            hostname="pop.test",
            listen=[pop],
            user=[{"name": USER, "password": HASH}],
            tls={"certificate": [{"chain": str(folder / "chain.pem"), "key": str(folder / "key.pem")}]},
        ) as server:
            yield server.port, trusting


async def test_T1_what_is_said_behind_stls_is_never_done(tmp_path: Path) -> None:
    async with with_stls(tmp_path) as (port, trusting), calling(port) as caller:
        caller.writer.write(b"STLS\r\nUSER mallory@example.org\r\nCAPA\r\n")
        assert (await caller.line()).startswith("+OK")
        await caller.writer.start_tls(trusting, server_hostname="127.0.0.1")
        assert (await caller.say("PASS x")).startswith("-ERR say USER first")
        assert await caller.log_in() == "+OK 0 messages, 0 octets"


async def test_T2_all_that_was_said_before_is_forgotten(tmp_path: Path) -> None:
    async with with_stls(tmp_path) as (port, trusting), calling(port) as caller:
        assert (await caller.say(f"USER {USER}")).startswith("-ERR a login needs TLS")
        assert (await caller.say("UTF8")).startswith("+OK")
        assert (await caller.say("STLS")).startswith("+OK")
        await caller.writer.start_tls(trusting, server_hostname="127.0.0.1")
        assert (await caller.say(f"PASS {PASSWORD}")).startswith("-ERR say USER first")
        offered = await caller.listing("CAPA")
        assert "STLS" not in offered and "USER" in offered


async def test_T3_stls_again_with_an_argument_or_behind_the_login(tmp_path: Path) -> None:
    async with with_stls(tmp_path) as (port, trusting), calling(port) as caller:
        assert (await caller.say("STLS now")).startswith("-ERR")
        assert (await caller.say("STLS")).startswith("+OK")
        await caller.writer.start_tls(trusting, server_hostname="127.0.0.1")
        assert (await caller.say("STLS")).startswith("-ERR TLS is active already")
        assert (await caller.log_in()).startswith("+OK")
        assert (await caller.say("STLS")).startswith("-ERR")
        assert await caller.say("STAT") == "+OK 0 0"


# ── R6, R13: time and space ────────────────────────────────────────────────────────────────────────────────────────


async def test_R6_a_command_that_comes_in_pieces_gains_no_time() -> None:
    async with pop_rig(await mailboxes()) as rig:
        client = await logged_in(rig)
        await _taken(rig)
        until = client.line.deadline
        for octet in b"NOOP":
            client.send(bytes((octet,)))
            await _taken(rig)
            assert client.line.deadline == until
        assert (await client.command("")).startswith("+OK")


async def _taken(rig: Any) -> None:
    """The session has taken what was sent, and waits."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("verb", ["USER", "PASS", "AUTH PLAIN", "APOP", "RETR", "TOP 1", "LANG", "XXXX"])
async def test_R13_an_argument_without_end_is_refused_before_it_is_kept(verb: str) -> None:
    async with pop_rig(await mailboxes()) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command(f"USER {USER}")
        client.send(verb.encode() + b" ")
        machine = rig._receptions[0].machine
        for _ in range(64):
            client.send(b"A" * 16_384)
            await _taken(rig)
            assert machine.buffered <= 64 * 1024
        client.send(b"\r\n")
        assert (await client.reply()).startswith("-ERR")
