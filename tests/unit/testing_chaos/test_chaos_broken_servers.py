"""The driver finds what is wrong with a server that was broken on purpose, and nothing where nothing is."""

import pytest

from gatepost.testing.chaos import Expected, HangUp, Hear, Knobs, Send, Session, TcpArena, Watch, generate, play, run
from unit.testing_chaos.stubs import Faults, stub

KNOBS = Knobs(tls=False, prdr=False)
EXPECTED = Expected(accepts=False)


async def driven(faults, sessions=60, patience_s=0.3):
    async with stub(faults) as port:
        arena = TcpArena("127.0.0.1", port)
        return await run(arena, sessions=sessions, knobs=KNOBS, expected=EXPECTED, patience_s=patience_s)


async def test_a_server_without_faults_is_clean():
    report = await driven(None, 150, patience_s=10)
    assert str(report).endswith("nothing was wrong")
    assert report.is_clean
    assert report.taken > 50
    assert report.sessions == 150
    assert {220, 221, 250, 354, 500, 503} <= set(report.replies)


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (Faults(twice=b"RCPT"), "nobody asked for"),
        (Faults(line_end=b"\n"), "ends with LF alone"),
        (Faults(line_end=b"\r\r\n"), "has a control character"),
        (Faults(text=b"x" * 509), "longer than 512 octets"),
        (Faults(text=b"a\0b"), "has a control character"),
        (Faults(text=b"caf\xe9"), "isn't ASCII"),
        (Faults(lines=(b"250-one\r\n", b"251 two\r\n")), "two codes"),
        (Faults(lines=(b"ok\r\n",)), "begins with no code"),
        (Faults(lines=(b"299 x\r\n",)), "begins with no code"),
        (Faults(lines=(b"250-x\r\n" * 2000,)), "has no end"),
        (Faults(lines=(b"354 x\r\n",)), "is answered: 354"),
        (Faults(mute=b"RCPT"), "no reply within 0.3 s to RCPT"),
        (Faults(ends=(b"\r\n.\r\n", b"\n.\n")), "the content"),
        (Faults(ends=(b"\r\n.\r\n", b"\n.\r\n")), "the content"),
        (Faults(ends=(b"\r\n.\r\n", b"\r\n.\r")), "the content"),
        (Faults(leaves=b"MAIL"), "closed without 221 or 421"),
        (Faults(orderly=False), "a recipient without a sender"),
        (Faults(orderly=False), "a sender within a transaction"),
        (Faults(longest=500), "NOOP of 51"),
        (Faults(hangs=True), "the connection wasn't closed"),
        (Faults(slow_end=b"250 still here\r\n"), "a reply after the last one"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
async def test_each_fault_is_found(faults, said):
    report = await driven(faults, sessions=200 if len(faults.ends) > 1 or faults.longest < 1000 else 30)
    assert any(said in one for one in (finding.what for finding in report.findings)), str(report)[:2000]
    assert not report.is_clean
    assert said.partition(":")[0] in str(report)


async def test_a_finding_is_replayed_by_its_number():
    faults = Faults(ends=(b"\r\n.\r\n", b"\n.\n"))
    found = next(one for one in (await driven(faults, 200)).findings if one.seed > 0)
    async with stub(faults) as port:
        again = await run(
            TcpArena("127.0.0.1", port), sessions=1, seed=found.seed, knobs=KNOBS, expected=EXPECTED, patience_s=0.3
        )
    assert [(one.seed, one.what, one.dialogue) for one in again.findings] == [(found.seed, found.what, found.dialogue)]
    assert f"seed {found.seed}, step {found.step}: {found.what}" in str(again)


async def test_where_nobody_listens():
    async with stub() as port:
        pass
    report = await run(TcpArena("127.0.0.1", port), sessions=2, patience_s=1)
    assert "no connection" in report.findings[0].what


async def test_a_plain_session_that_hears_something_else_than_before_is_a_finding():
    faults = Faults()
    async with stub(faults) as port:
        arena = TcpArena("127.0.0.1", port)

        def break_it(report):
            faults.text, faults.orderly = b"fine", True
            if report.sessions == 3:
                faults.lines = ()
                faults.ends = (b"never",)

        report = await run(
            arena,
            sessions=5,
            knobs=KNOBS,
            expected=EXPECTED,
            patience_s=0.2,
            plain_every=1,
            progress=break_it,
            at_once=1,
        )
    assert any(one.seed == -1 for one in report.findings)
    assert "the plain session: no reply within 0.2 s" in str(report)


async def test_what_a_person_reads():
    session = Session(7, (Hear(), Send(b"NOOP\r\n"), Send(b"x" * 500, after=354), HangUp()))
    assert str(session).splitlines() == [
        "   0  (hear)",
        "   1  NOOP\\r\\n",
        f"   2  after 354: {'x' * 100} …(300 octets)… {'x' * 100}",
        "   3  (hangup)",
    ]
    async with stub() as port:
        line = await TcpArena("127.0.0.1", port).connect()
        watch = Watch()
        assert await play(session, line, watch, 5) == 3
    assert str(watch).startswith("S: 220 stub\\r\\nC: NOOP\\r\\n".replace("\\r\\nC", "\\r\\n\nC"))
    assert generate(3) == generate(3) != generate(4)
