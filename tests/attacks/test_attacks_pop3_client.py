"""Bad servers that mail is collected from: O7 entirely, R2 (no end), T1 and T4 (STLS), I1 (what is shown), over real
sockets. What becomes of the messages then stands with the collector's tests."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from gatepost.collecting import remote_dialogue
from gatepost.collecting.ports import Refused, TooLarge, Trouble
from gatepost.net.stream import RESERVE
from gatepost.wire.pop3 import client as machine
from gatepost.wire.pop3.client import MAX_ANSWER
from unit.collecting_remote.bad_server import GOOD, HANG_UP, SILENCE, BadServer, BadSession, stuffed
from unit.collecting_remote.sessions import MAIL, content, refused, session, trouble

BOUND_S = 20.0  # far above what any of it takes
NO_UIDL = tuple(tag for tag in GOOD if tag != "UIDL")


# O7: a server without UIDL


@pytest.mark.parametrize(
    ("capa", "says"), [(NO_UIDL, b"-ERR what?\r\n"), (GOOD, b"-ERR what?\r\n"), (None, b"-ERR what?\r\n"), (None, None)]
)
async def test_O7_a_server_without_uidl(capa: tuple[str, ...] | None, says: bytes | None) -> None:
    server = BadServer(list(MAIL), capa=capa, says={} if says is None else {"UIDL": says})
    async with session(server) as remote:
        found = await remote.messages()
        assert [one.uid for one in found] == ([None] * 3 if says else ["uid1", "uid2", "uid3"])
        assert remote.has_uidl is (says is None)
        assert await content(remote, 1) == MAIL[0]
        await remote.quit()


async def test_O7_a_server_that_names_only_some_and_some_twice() -> None:
    names = b"+OK\r\n1 same\r\n2 same\r\n3 \xff\r\n9 ghost\r\n1 later\r\n.\r\n"
    server = BadServer(list(MAIL), says={"UIDL": names})
    async with session(server) as remote:
        assert [(one.number, one.uid) for one in await remote.messages()] == [(1, "later"), (2, "same"), (3, None)]


# O7: a connection that breaks off


@pytest.mark.parametrize(
    "at", [b"", b"+O", b"+OK\r\n", b"+OK\r\nSubject: x\r\n", b"+OK\r\nSubject: x\r\n\r\nbody\r\n.\r"]
)
async def test_O7_a_disconnect_within_retr(at: bytes) -> None:
    server = BadServer(list(MAIL), says={"RETR 2": at + HANG_UP})
    async with session(server) as remote:
        await remote.delete(1)
        error = await trouble(lambda: content(remote, 2))
        assert error.kind is Trouble.LOST
        assert await trouble(lambda: content(remote, 3)) is error
        assert await trouble(remote.quit) is error
    assert len(server.mail) == 3 and "QUIT" not in server.heard


async def test_O7_a_disconnect_after_retr() -> None:
    server = BadServer(list(MAIL), says={"RETR 2": b"+OK\r\n" + stuffed(MAIL[1]) + HANG_UP})
    async with session(server) as remote:
        assert await content(remote, 2) == MAIL[1]
        assert (await trouble(lambda: remote.delete(2))).kind is Trouble.LOST


@pytest.mark.parametrize("said", [HANG_UP, b"+O" + HANG_UP, b"+OK" + HANG_UP])
async def test_O7_no_answer_to_quit_is_no_deletion(said: bytes) -> None:
    server = BadServer(list(MAIL), says={"QUIT": said})
    async with session(server) as remote:
        await remote.delete(1)
        assert (await trouble(remote.quit)).kind is Trouble.LOST


async def test_O7_quit_refused_is_told() -> None:
    server = BadServer(list(MAIL), says={"QUIT": b"-ERR some deleted messages not removed\r\n"})
    async with session(server) as remote:
        await remote.delete(1)
        error = await trouble(remote.quit)
        assert error.kind is Trouble.TEMPORARY and "not removed" in str(error)


# O7: the terminator, in one buffer and divided


@pytest.mark.parametrize("piece", [0, 1, 2, 3, 4, 5])
async def test_O7_the_terminator_wherever_it_is_cut(piece: int) -> None:
    awkward = b"Subject: x\r\n\r\n.\r\n..\r\n\r\n.\r\nlast"
    server = BadServer([awkward, b"", b"\r\n", b".\r\n", *MAIL], piece=piece)
    async with session(server) as remote:
        assert len(await remote.messages()) == 7
        found = [await content(remote, number) for number in range(1, 8)]
        assert found == [awkward + b"\r\n", b"", b"\r\n", b".\r\n", *MAIL]
        await remote.delete(7)
        await remote.quit()
    assert len(server.mail) == 6


# O7: sizes that lie


@pytest.mark.parametrize("size", ["0", "1", "999999999999999999", "99999999999999999999999", "-1", "x", ""])
async def test_O7_a_size_is_only_a_word(size: str) -> None:
    server = BadServer(list(MAIL), says={"LIST": f"+OK\r\n1 {size}\r\n.\r\n".encode()})
    async with session(server) as remote:
        [found] = await remote.messages()
        assert 0 <= found.size < 10**18
        assert await content(remote, 1) == MAIL[0]
        with pytest.raises(TooLarge):
            await content(remote, 1, len(MAIL[0]) - 1)
        assert await content(remote, 1, len(MAIL[0])) == MAIL[0]


# O7: -ERR mid-way


async def test_O7_err_to_one_message_leaves_the_others() -> None:
    server = BadServer(list(MAIL), says={"RETR 2": b"-ERR [SYS/TEMP] can't read it\r\n", "DELE 1": b"-ERR no\r\n"})
    async with session(server) as remote:
        with pytest.raises(Refused, match="can't read it"):
            await content(remote, 2)
        with pytest.raises(Refused):
            await remote.delete(1)
        assert await content(remote, 3) == MAIL[2]
        await remote.delete(3)
        await remote.quit()
    assert len(server.mail) == 2


async def test_O7_err_within_a_message_is_no_end_of_it() -> None:
    server = BadServer(list(MAIL), says={"RETR 1": b"+OK\r\nSubject: x\r\n-ERR disk gone\r\n" + HANG_UP})
    async with session(server) as remote:
        assert (await trouble(lambda: content(remote, 1))).kind is Trouble.LOST


async def test_O7_a_message_does_not_speak_for_its_server() -> None:
    smuggled = b"Subject: x\r\n\r\na\n.\n+OK\r\n\n.\r\n-ERR no\r\nb\r\n"
    server = BadServer([smuggled, *MAIL])
    async with session(server) as remote:
        taken = await content(remote, 1)
        assert taken == b"Subject: x\r\n\r\na\r\n.\r\n+OK\r\n\r\n.\r\n-ERR no\r\nb\r\n"
        await remote.delete(1)
        assert await content(remote, 2) == MAIL[0]


# O7: large messages, and what has no end


async def test_O7_a_large_message_goes_through_in_bounded_memory() -> None:
    block = (b"x" * 76 + b"\r\n") * 400_000
    server = BadServer(list(MAIL), says={"RETR": b"+OK\r\n" + block + b".\r\n"}, piece=1 << 20)
    async with session(server) as remote:
        dialogue = remote._dialogue
        size = most = count = 0
        async for piece in remote.retrieve(1, 1 << 30):
            size += len(piece)
            count += 1
            if count % 10 == 0:
                await asyncio.sleep(0.001)  # while the collector is busy the rest waits at the server's
            most = max(most, len(piece) + dialogue.stream.pending + dialogue.client.buffered)
        assert size == len(block) > 30_000_000
        assert most <= 3 * RESERVE
        await remote.quit()


async def test_O7_a_message_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_dialogue, "MAX_UNWANTED", 1 << 20)
    endless = b"+OK\r\n" + (b"x" * 76 + b"\r\n") * 40_000 + SILENCE
    server = BadServer(list(MAIL), says={"RETR 1": endless})
    async with session(server) as remote:
        with pytest.raises(TooLarge):
            await content(remote, 1, 100_000)
        error = await trouble(lambda: content(remote, 2))
        assert error.kind is Trouble.PROTOCOL and "without end" in str(error)


@pytest.mark.parametrize("verb", ["LIST", "UIDL"])
async def test_R2_a_listing_without_end(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_ENTRIES", 20_000)
    endless = b"+OK\r\n" + b"1 1\r\n" * 30_000 + SILENCE
    server = BadServer(list(MAIL), says={verb: endless})
    async with session(server) as remote:
        error = await trouble(remote.messages)
        assert error.kind is Trouble.PROTOCOL and "without end" in str(error)


@pytest.mark.parametrize("begun", [b"+OK ", b"+OK\r\n1 "])
async def test_R2_a_line_without_end(begun: bytes) -> None:
    server = BadServer(list(MAIL), says={"LIST": begun + b"x" * (2 * MAX_ANSWER) + SILENCE})
    async with session(server) as remote:
        assert (await trouble(remote.messages)).kind is Trouble.PROTOCOL


async def test_R2_a_capability_list_without_end() -> None:
    server = BadServer(says={"CAPA": b"+OK\r\n" + b"X-TAG\r\n" * 5000 + SILENCE})
    assert (await refused(server)).kind is Trouble.PROTOCOL


@pytest.mark.parametrize("silent", ["", "CAPA", "APOP"])
async def test_R2_a_server_that_says_nothing(silent: str) -> None:
    error = await refused(BadServer(says={silent: SILENCE}), command_s=0.2)
    assert error.kind is Trouble.LOST and "too long" in str(error)


@pytest.mark.parametrize("begun", [b"", b"+OK", b"+OK\r\n", b"+OK\r\n1 1\r\n", b"+OK\r\n1 1\r\n."])
@pytest.mark.parametrize("verb", ["LIST", "RETR 1", "QUIT"])
async def test_R2_a_server_that_falls_silent(verb: str, begun: bytes) -> None:
    server = BadServer(
        list(MAIL), says={verb: begun.partition(b"\n")[0] + SILENCE if verb == "QUIT" else begun + SILENCE}
    )
    async with session(server, command_s=0.2) as remote:
        what = {"LIST": remote.messages, "RETR 1": lambda: content(remote, 1), "QUIT": remote.quit}[verb]
        assert (await trouble(what)).kind is Trouble.LOST


async def test_R2_octets_that_drip_do_not_keep_us() -> None:
    server = BadServer(says={"": b"+OK " + b"x" * 1000}, piece=1, pause_s=0.02)
    async with asyncio.timeout(BOUND_S):
        error = await refused(server, command_s=0.3)
    assert error.kind is Trouble.LOST


# What isn't POP3, and what is shown of it


@pytest.mark.parametrize(
    "greeting",
    [
        b"220 mx ESMTP\r\n",
        b"* OK IMAP4rev1\r\n",
        b"HTTP/1.1 400 Bad\r\n\r\n",
        b"\x16\x03\x01\n",
        b"\x1b[2J\x07\xff\r\n",
        b"\n",
    ],
)
async def test_I1_whoever_does_not_speak_pop3(greeting: bytes) -> None:
    assert (await refused(BadServer(says={"": greeting}))).kind is Trouble.PROTOCOL


async def test_I1_what_a_server_says_is_shown_safely() -> None:
    server = BadServer(says={"APOP": b"-ERR \x1b[31m\xff evil\r text \x85" + b"x" * 3000 + b"\r\n"})
    error = await refused(server)
    assert error.kind is Trouble.LOGIN


async def test_a_server_that_has_had_enough() -> None:
    server = BadServer(list(MAIL), says={"NOOP": b"+OK\r\n-ERR [SYS/TEMP] going down\r\n" + HANG_UP})
    async with session(server) as remote:
        dialogue = remote._dialogue
        await dialogue.before("NOOP")
        dialogue.client.noop()
        assert (await dialogue.answer()).is_positive
        error = await trouble(remote.messages)
        assert error.kind is Trouble.TEMPORARY and "going down" in str(error)


async def test_an_answer_nobody_asked_for_is_not_taken_for_one() -> None:
    server = BadServer(list(MAIL), says={"DELE 1": b"+OK\r\n+OK\r\n"})
    async with session(server) as remote:
        await remote.delete(1)
        assert (await trouble(remote.quit)).kind is Trouble.PROTOCOL
    assert len(server.mail) == 3


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [
        (b"-ERR too many connections\r\n", Trouble.TEMPORARY),
        (b"-ERR [SYS/TEMP] no\r\n", Trouble.TEMPORARY),
        (b"-ERR [SYS/PERM] no\r\n", Trouble.PROTOCOL),
    ],
)
async def test_a_server_that_does_not_want_to_talk(greeting: bytes, kind: Trouble) -> None:
    assert (await refused(BadServer(says={"": greeting + HANG_UP}))).kind is kind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"-ERR [AUTH] no", Trouble.LOGIN),
        (b"-ERR [AUTH] mailbox is busy, or not", Trouble.LOGIN),
        (b"-ERR no", Trouble.LOGIN),
        (b"-ERR this account is locked", Trouble.LOGIN),
        (b"-ERR [SYS/PERM] no", Trouble.LOGIN),
        (b"-ERR [IN-USE] no", Trouble.TEMPORARY),
        (b"-err [login-delay] no", Trouble.TEMPORARY),
        (b"-ERR [SYS/TEMP] no", Trouble.TEMPORARY),
        (b"-ERR maildrop already locked", Trouble.TEMPORARY),
        (b"-ERR Unable to lock maildrop: Mailbox is locked by POP server", Trouble.TEMPORARY),
        (b"-ERR mailbox in use", Trouble.TEMPORARY),
        (b"-ERR temporary failure", Trouble.TEMPORARY),
    ],
)
async def test_why_a_login_was_refused(answer: bytes, kind: Trouble) -> None:
    assert (await refused(BadServer(says={"APOP": answer + b"\r\n"}))).kind is kind


# T1, T4: STLS


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(made)
    return made


SECRET = {"USER", "PASS", "APOP", "AUTH"}


def verbs(server: BadServer) -> set[str]:
    return {line.partition(" ")[0] for line in server.heard}


async def test_T4_a_stripped_stls_ends_the_session() -> None:
    server = BadServer(list(MAIL))
    assert (await refused(server, tls="starttls", verify=False)).kind is Trouble.TLS
    assert not verbs(server) & SECRET


@pytest.mark.parametrize("injected", [b"+OK\r\n", b"+", b"+OK\r\n+OK\r\n1 1\r\n.\r\n"])
async def test_T1_T4_what_is_said_before_the_handshake_is_not_taken(injected: bytes, context: ssl.SSLContext) -> None:
    server = BadServer(list(MAIL), tls=context, says={"STLS": b"+OK go on\r\n" + injected})
    error = await refused(server, tls="starttls", verify=False)
    assert error.kind in (Trouble.TLS, Trouble.PROTOCOL) and not verbs(server) & SECRET


async def test_T4_what_is_said_before_stls_is_not_taken(context: ssl.SSLContext) -> None:
    server = BadServer(list(MAIL), tls=context, says={"": b"+OK ready\r\n+OK go on\r\n"})
    assert (await refused(server, tls="starttls", verify=False)).kind is Trouble.PROTOCOL
    assert not verbs(server) & SECRET


async def test_T2_nothing_is_asked_in_the_clear_that_could_be_lied_about(context: ssl.SSLContext) -> None:
    server = BadServer(list(MAIL), tls=context)
    async with session(server, tls="starttls", verify=False) as remote:
        assert len(await remote.messages()) == 3
    assert server.heard[:2] == ["STLS", "CAPA"]


async def test_T7_a_handshake_that_stalls(context: ssl.SSLContext) -> None:
    server = BadServer(tls=context, says={"STLS": b"+OK\r\n" + SILENCE})
    error = await refused(server, tls="starttls", verify=False, command_s=0.3)
    assert error.kind is Trouble.LOST


# SASL


async def test_a_server_that_knows_no_password_is_not_believed() -> None:
    server = BadServer(list(MAIL), capa=(*GOOD, "SASL SCRAM-SHA-256"), says={"AUTH": b"+OK welcome\r\n"})
    error = await refused(server)
    assert error.kind is Trouble.PROTOCOL and "hasn't shown" in str(error)


@pytest.mark.parametrize("rounds", [1, 2147483647])
async def test_P5_a_hash_of_any_number_of_rounds_is_not_made(rounds: int) -> None:
    def challenge(_: BadSession, line: str) -> bytes:
        from base64 import b64decode, b64encode

        nonce = b64decode(line.split(" ")[2]).partition(b"r=")[2]
        return b"+ " + b64encode(b"r=" + nonce + b"x,s=c2FsdA==,i=%d" % rounds) + b"\r\n"

    server = BadServer(capa=(*GOOD, "SASL SCRAM-SHA-256"), says={"AUTH": challenge, "*": b"-ERR cancelled\r\n"})
    error = await refused(server)
    assert error.kind is Trouble.PROTOCOL and "rounds" in str(error)
    assert server.heard[-1] == "*"


async def test_a_server_that_goes_on_asking() -> None:
    server = BadServer(
        capa=(*GOOD, "SASL LOGIN"), says={"AUTH": b"+ \r\n", "YW5u": b"+ \r\n", "c2VjcmV0": b"+ \r\n", "*": b"+ \r\n"}
    )
    error = await refused(server, mechanisms=("login",), command_s=1.0)
    assert error.kind is Trouble.PROTOCOL
