"""A POP3 session over a maildrop in memory: what is heard, what is deleted, and what isn't."""

import asyncio
import base64
from dataclasses import replace

import pytest

from gatepost.admin.telling import explain
from gatepost.net import DeadlinePassed
from gatepost.serving.limits import SessionLimits
from gatepost.serving.pop3_place import PopPlace
from gatepost.store.mailboxes import MailboxError, MessageGone
from gatepost.testing.rig import Rig
from unit.serving_pop3.pop3_talk import MESSAGES, SIZES, body, logged_in, mailboxes, pop_rig


def place_of(rig: Rig) -> PopPlace:
    return next(place for place in rig.generation.places.values() if isinstance(place, PopPlace))


async def left(kept, user="ann@example.org"):
    """Sizes of what is in the maildrop."""
    session = await kept.open(user)
    await session.close()
    return [entry.size for entry in session.messages]


async def test_a_whole_session_word_by_word():
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        assert await client.command("STAT") == f"+OK 3 {sum(SIZES)}"
        assert await client.listing("LIST") == [f"{at} {size}" for at, size in enumerate(SIZES, 1)]
        assert await client.command("LIST 2") == f"+OK 2 {SIZES[1]}"
        uids = await client.listing("UIDL")
        assert await client.command("UIDL 3") == f"+OK {uids[2]}"
        for number, message in enumerate(MESSAGES, 1):
            assert await client.command(f"RETR {number}") == f"+OK {SIZES[number - 1]} octets"
            assert body(await client.lines()) == message
        assert body(await client.listing("TOP 2 1")) == b"From: a@b.example\r\nSubject: two\r\n\r\n.\r\n"
        assert (await client.command("DELE 1")).startswith("+OK")
        assert await client.command("STAT") == f"+OK 2 {sum(SIZES[1:])}"
        assert await client.listing("UIDL") == uids[1:]
        for line in ("RETR 1", "TOP 1 0", "LIST 1", "UIDL 1", "DELE 1", "LIST 4", "RETR 2147483648", "LIST 0"):
            assert (await client.command(line)).startswith("-ERR no such message"), line  # attack O1
        assert (await client.command("LIST -1")).startswith("-ERR")
        assert (await client.command("NOOP")).startswith("+OK")
        assert (await client.command("QUIT")).startswith("+OK")
        assert await client.reply() == ""
        await rig.settled()
        assert await left(kept) == SIZES[1:]
        assert [facts["number"] for facts in rig.records.kinds("retrieved")] == [1, 2, 3]
        [deleted] = rig.records.kinds("removed")
        assert deleted == {"messages": 1, "uids": [uids[0].split()[1]]}
        [end] = rig.records.kinds("end")
        assert end == {"how": "quit", "retrieved": 3, "deleted": 1}
        [login] = rig.records.kinds("login")
        assert login == {"user": "ann@example.org", "mechanism": "USER", "messages": 3, "octets": sum(SIZES)}


async def test_rset_takes_the_marks_away():
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        await client.command("DELE 1")
        assert await client.command("RSET") == "+OK 3 messages"
        assert await client.command("STAT") == f"+OK 3 {sum(SIZES)}"
        await client.command("QUIT")
        await rig.settled()
        assert await left(kept) == SIZES
        assert not rig.records.kinds("removed")


@pytest.mark.parametrize("how", ["lost", "closed", "cut off", "half a command", "timeout"])
async def test_a_session_without_quit_deletes_nothing_and_gives_the_lock_back(how):  # attack O2
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        for number in (1, 2):
            await client.command(f"DELE {number}")
        match how:
            case "lost":
                client.line.lose()
            case "closed":
                client.line.end_of_file()
            case "cut off":
                rig._receptions[0].cut_off()
            case "half a command":
                client.send(b"QUI")
                client.line.end_of_file()
            case "timeout":

                async def never():
                    raise DeadlinePassed("too late")

                client.line.receive = never
                assert await client.command("NOOP") == "+OK"
        await rig.settled()
        assert await left(kept) == SIZES  # which opens it, too
        [end] = rig.records.kinds("end")
        assert end["deleted"] == 0 and end["how"] != "quit"
        if how == "timeout":
            assert await client.reply() == ""  # rfc1939#3: nothing is said


async def test_a_connection_lost_behind_quit_deletes_all_the_same():
    kept = await mailboxes()
    going, gone = asyncio.Event(), asyncio.Event()

    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        mailbox = rig._receptions[0].login.mailbox
        delete = mailbox.delete

        async def slow(entries):
            going.set()
            await gone.wait()
            return await delete(entries)

        mailbox.delete = slow
        await client.command("DELE 3")
        client.send(b"QUIT\r\n")
        await going.wait()
        client.line.lose()
        gone.set()
        await rig.settled()
        assert await left(kept) == SIZES[:2]


async def test_what_cant_be_deleted_is_told_at_quit():
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        mailbox = rig._receptions[0].login.mailbox

        async def none(entries):
            return list(entries)

        mailbox.delete = none
        await client.command("DELE 1")
        assert (await client.command("QUIT")).startswith("-ERR [SYS/TEMP] some deleted messages")
        await rig.settled()
        assert rig.records.kinds("removed")[0]["messages"] == 0
        assert rig.records.kinds("end")[0]["deleted"] == 0


async def test_one_session_for_each_maildrop():  # attack O3
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        first = await logged_in(rig)
        second = rig.pick_up()
        await second.reply()
        for _ in range(10):  # which isn't a wrong password
            await second.command("USER ann@example.org")
            assert (await second.command("PASS gro.elpmaxe@nna")).startswith("-ERR [IN-USE]")
        await logged_in(rig, "bob@example.org")
        assert (await first.command("QUIT")).startswith("+OK")
        await second.command("USER ann@example.org")  # at once: the lock was given back before the goodbye
        assert (await second.command("PASS gro.elpmaxe@nna")).startswith("+OK 3 messages")


async def test_logins_that_fail():
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command("USER ann@example.org")
        assert (await client.command("PASS wrong")).startswith("-ERR [AUTH] wrong name or password")
        await client.command("USER nobody@example.org")
        assert (await client.command("PASS wrong")).startswith("-ERR [AUTH] wrong name or password")
        plain = base64.b64encode(b"\0ann@example.org\0gro.elpmaxe@nna").decode()
        assert (await client.command("STAT")).startswith("-ERR log in first")
        assert (await client.command(f"AUTH PLAIN {plain}")).startswith("+OK 3 messages")
        failed = [facts for facts in rig.records.kinds("auth")]
        assert [facts["user"] for facts in failed] == ["ann@example.org", "nobody@example.org"]
        assert "wrong" not in str([facts["line"] for facts in rig.records.kinds("refused")])


async def test_auth_login_in_steps_and_cancelled():  # attack O5
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = rig.pick_up()
        await client.reply()
        assert (await client.command("AUTH LOGIN")).startswith("+ ")
        assert (await client.command("*")).startswith("-ERR")
        assert (await client.command("AUTH LOGIN")).startswith("+ ")
        assert (await client.command(base64.b64encode(b"ann@example.org").decode())).startswith("+ ")
        said = await client.command(base64.b64encode(b"gro.elpmaxe@nna").decode())
        assert said == f"+OK 3 messages, {sum(SIZES)} octets"
        assert rig.records.kinds("login")[0]["mechanism"] == "LOGIN"


async def test_too_many_failures_end_the_session_each_slower_than_the_one_before(monkeypatch):  # attack O5
    kept = await mailboxes()
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async with pop_rig(kept, failure_delay=2) as rig:
        monkeypatch.setattr("gatepost.serving.pop3.asyncio.sleep", sleep)
        attempts = place_of(rig).profile.auth_attempts
        client = rig.pick_up()
        await client.reply()
        for _ in range(attempts):
            await client.command("USER ann@example.org")
            assert (await client.command("PASS wrong")).startswith("-ERR [AUTH]")
        await client.command("USER ann@example.org")
        assert (await client.command("PASS gro.elpmaxe@nna")).startswith("-ERR too many failed logins")
        assert await client.reply() == ""
        assert slept == [2 * at for at in range(1, attempts + 1)]


async def test_no_login_before_tls_unless_the_listener_says_so():
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        place = place_of(rig)
        profile = replace(place.profile, starttls=True, auth_without_tls=False)
        safe = replace(place, profile=profile, tls=lambda: None)
        client = rig.pick_up(place=safe)
        await client.reply()
        offered = await client.listing("CAPA")
        assert "STLS" in offered and "USER" not in offered and not any(line.startswith("SASL") for line in offered)
        assert (await client.command("USER ann@example.org")).startswith("-ERR a login needs TLS; say STLS first")
        client.send(b"STLS\r\nUSER injected\r\n")  # attacks O5, T1
        assert (await client.reply()).startswith("+OK")
        assert (await client.command("PASS x")).startswith("-ERR say USER first")
        assert "SASL PLAIN LOGIN" in await client.listing("CAPA")
        await client.command("USER ann@example.org")
        assert (await client.command("PASS gro.elpmaxe@nna")).startswith("+OK")
        assert rig.records.kinds("discarded") == [{"octets": 15, "behind": "STLS"}]
        assert rig.last_session.tls is not None
        implicit = await logged_in(rig, "bob@example.org", place=safe, tls=True)
        assert await implicit.command("STAT") == "+OK 0 0"


async def test_everything_pipelined():  # attack O6
    kept = await mailboxes(*MESSAGES[:2])
    async with pop_rig(kept) as rig:
        client = rig.pick_up()
        client.send(
            b"USER ann@example.org\r\nPASS gro.elpmaxe@nna\r\nSTAT\r\nLIST\r\nRETR 1\r\nDELE 1\r\nRETR 2\r\nQUIT\r\n"
        )
        said = [await client.reply() for _ in range(4)]
        assert [line[:3] for line in said] == ["+OK"] * 4
        assert await client.reply() == "+OK 2 messages"
        assert len(await client.lines()) == 2
        assert (await client.reply()).startswith("+OK") and body(await client.lines()) == MESSAGES[0]
        assert (await client.reply()).startswith("+OK")
        assert (await client.reply()).startswith("+OK") and body(await client.lines()) == MESSAGES[1]
        assert (await client.reply()).startswith("+OK goodbye")
        await rig.settled()
        assert await left(kept) == SIZES[1:2]


async def test_logins_that_follow_too_soon():
    facts = {}

    class Ledger:
        async def get(self, space, key):
            return facts.get((space, key))

        async def put(self, space, key, value, ttl_s):
            facts[space, key] = (value, ttl_s)

    kept = await mailboxes()
    async with pop_rig(kept, login_delay=90) as rig:
        place = replace(place_of(rig), facts=Ledger())
        client = await logged_in(rig, place=place)
        assert "LOGIN-DELAY 90" in await client.listing("CAPA")
        await client.command("QUIT")
        again = rig.pick_up(place=place)
        await again.reply()
        await again.command("USER ANN@example.org")
        assert (await again.command("PASS gro.elpmaxe@NNA")).startswith("-ERR [LOGIN-DELAY]")
        assert list(facts.values()) == [(1, 90)]
        facts.clear()
        await again.command("USER ann@example.org")
        assert (await again.command("PASS gro.elpmaxe@nna")).startswith("+OK")


async def test_a_maildrop_that_cant_be_opened_or_read():
    kept = await mailboxes()

    class Broken:
        async def open(self, user):
            raise MailboxError("the disk")

    async with pop_rig(kept) as rig:
        client = rig.pick_up(place=replace(place_of(rig), mailboxes=Broken()))
        await client.reply()
        await client.command("USER ann@example.org")
        assert (await client.command("PASS gro.elpmaxe@nna")).startswith("-ERR [SYS/TEMP] the maildrop can't be")
        await client.command("QUIT")
        client = await logged_in(rig)
        mailbox = rig._receptions[-1].login.mailbox
        errors = [MessageGone("away"), MailboxError("the disk")]

        async def broken(entry):
            raise errors.pop(0)

        right, mailbox.open_content = mailbox.open_content, broken
        assert await client.command("RETR 1") == "-ERR the message isn't there any more"
        assert await client.command("RETR 1") == "-ERR [SYS/TEMP] the message can't be read now"

        async def half(entry):
            content = await right(entry)
            pieces = [await content.read()]

            class Half:
                async def read(self):
                    if not pieces:
                        raise MailboxError("the disk")
                    return pieces.pop()

                def close(self):
                    content.close()

            return Half()

        mailbox.open_content = half
        await client.command("DELE 1")
        assert (await client.command("RETR 3")).startswith("+OK")
        with pytest.raises(EOFError):
            await client.lines()  # nobody takes it for a whole message
        await rig.settled()
        assert await left(kept) == SIZES


async def test_a_slow_reader_is_waited_for_and_memory_is_bounded():
    kept = await mailboxes(b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 2**18 + b"\r\n")
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        may_go_on, largest = asyncio.Event(), 0
        write, drain = client.line.write, client.line.drain
        waiting = asyncio.Event()

        def writes(data):
            nonlocal largest
            largest = max(largest, len(data))
            write(data)

        async def drains():
            waiting.set()
            await may_go_on.wait()
            await drain()

        client.line.write, client.line.drain = writes, drains
        client.send(b"RETR 1\r\n")
        await waiting.wait()
        assert len(client.line._said) < 300_000  # one piece and no more
        may_go_on.set()
        assert (await client.reply()).startswith("+OK")
        assert len("".join(await client.lines())) == 2**22 + len("Subject: big")
        assert largest < 300_000


async def test_a_server_that_goes_down_lets_who_is_logged_in_finish():
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        idle = rig.pick_up()
        await idle.reply()
        client = await logged_in(rig)
        for session in rig._receptions:
            session.go_down()
        assert (await idle.reply()).startswith("-ERR [SYS/TEMP] the server is going down")
        await client.command("DELE 1")
        assert (await client.command("QUIT")).startswith("+OK")
        await rig.settled()
        assert await left(kept) == SIZES[1:]


async def test_somebody_who_speaks_something_else_is_turned_away():
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = rig.pick_up()
        await client.reply()
        assert (await client.command("GET / HTTP/1.1")).startswith("-ERR")
        assert await client.reply() == ""
        await rig.settled()
        assert rig.records.kinds("refused")[0]["by"] == "protocol"


async def test_one_session_too_many_is_turned_away():  # attack R7
    async with pop_rig(await mailboxes()) as rig:
        rig.surroundings.counter.limits = SessionLimits(1, 1)
        first = rig.pick_up()
        assert (await first.reply()).startswith("+OK")
        second = rig.pick_up()
        assert (await second.reply()).startswith("-ERR [SYS/TEMP] too many sessions")
        assert await second.reply() == ""
        await first.command("QUIT")
        await rig.settled()
        assert (await rig.pick_up().reply()).startswith("+OK")


async def test_an_error_of_ours_is_told_and_deletes_nothing():
    kept = await mailboxes()
    async with pop_rig(kept) as rig:
        client = await logged_in(rig)
        await client.command("DELE 1")
        rig._receptions[0].login.mailbox.messages = None
        assert (await client.command("LIST")).startswith("-ERR [SYS/TEMP] an error here, try again later (")
        assert await client.reply() == ""
        await rig.settled()
        assert await left(kept) == SIZES
        assert rig.records.kinds("end")[0]["how"] == "error"


async def test_the_story_of_a_session_is_short():
    kept = await mailboxes(*[MESSAGES[0]] * 30)
    async with pop_rig(kept) as rig:
        failed = rig.pick_up()
        await failed.reply()
        await failed.command("USER ann@example.org")
        await failed.command("PASS wrong")
        await failed.command("QUIT")
        await rig.settled()
        client = await logged_in(rig)
        for number in range(1, 31):
            await client.listing(f"RETR {number}")
        await client.command("DELE 30")
        await client.command("QUIT")
        await rig.settled()
        first, second = dict.fromkeys(token for token, _, _ in rig.records.entries)
        told = {
            token: explain((0, *entry) for entry in rig.records.entries if entry[0] == token)
            for token in (first, second)
        }
        assert "wrong name or password" in str(told[first]) and "ended: quit" in str(told[first])
        lines = str(told[second]).splitlines()
        assert lines[0].startswith("MAILDROP OPENED") and lines[0].endswith(f"session {second}, listener pop3")
        assert "as ann@example.org" in lines[1]
        assert lines[2] == f"  maildrop: 30 messages, {30 * SIZES[0]} octets"
        assert lines[3].startswith("  retrieved 1, ")
        assert lines[12] == "  and 12 more"
        assert lines[-1].startswith("  deleted 1: ") and len(lines) == 23
