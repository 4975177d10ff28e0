"""Filters: mail on standard input, another on standard output, and what qmail's exit codes come to."""

import pytest

from gatepost.hooks.verdicts import Discard
from gatepost.plugins.loaded import Wish
from gatepost.plugins.program import ProgramOptions, SpamCodes, load_program
from gatepost.serving.house import Gate, OpenTo
from gatepost.testing.rig import Rig
from unit.plugins_program.program_scripts import MESSAGE, asked, body, every_code, failure, python, script

WHOLE = 'cat; exec 1>&-; exit "$1"'  # the whole mail, then a code


async def test_output_replaces_the_mail():
    story = await asked("sed -e 's/^Subject: /Subject: [x] /'")
    assert body(story) == MESSAGE.replace(b"Subject: ", b"Subject: [x] ")
    assert story.asked[0]["edits"] == ["- Subject: hello; + Subject: [x] hello"]


async def test_the_same_output_is_no_edit():
    story = await asked("cat")
    assert body(story) == MESSAGE
    assert "edits" not in story.asked[0]


async def test_every_exit_code_of_a_filter(tmp_path):
    for code, story in await every_code(script(tmp_path, WHOLE)):
        if code == 0:
            assert body(story) == MESSAGE
        elif code in {2, 99}:
            assert story.accepted()
            assert story.content is None
            assert story.verdict("message") == Discard(f"program exited with status {code}")
        elif code in {31, 100}:
            assert story.reply.startswith("554 5.7.1 refused by a mail filter (")
            assert not story.errors
        elif code == 88:
            assert "neither D nor Z" in failure(story)
        elif code in {126, 127}:
            assert failure(story) == f"it couldn't be begun: {code}"
        else:
            assert failure(story) == f"it exited with status {code}"


async def test_what_throws_away_may_be_less():
    story = await asked("if", options={"shell": True})  # a shell's own errors
    assert story.verdict("message") == Discard("if exited with status 2")
    assert failure(await asked("if", options={"shell": True, "discard": "99"})).startswith("it exited with status 2;")


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("Dnot with that", "554 5.7.1 not with that ("),
        ("D5.1.1 no such user", "554 5.1.1 no such user ("),
        ("Zcome again", "451 4.7.1 come again ("),
        ("Z4.2.0 come again", "451 4.2.0 come again ("),
        ("D4.2.0 come again", "554 5.7.1 4.2.0 come again ("),
        ("D", "554 5.7.1 refused ("),
        ("Da\\rb\\n250 ok", "554-5.7.1 a b"),
    ],
)
async def test_a_text_of_ones_own(tmp_path, words, reply):
    story = await asked(script(tmp_path, f"printf '{words}' >&2; exit 88"))
    assert story.reply.replace("554-5.7.1 a\n", "554-5.7.1 a b\n").startswith(reply)
    assert not story.errors
    assert all(line[:3] == story.reply[:3] for line in story.reply.split("\n"))


async def test_the_text_of_a_refusal_is_the_settings(tmp_path):
    story = await asked(script(tmp_path, "exit 100"), options={"text": "no macros, please"})
    assert story.reply.startswith("554 5.7.1 no macros, please (")


@pytest.mark.parametrize("reject", [0, 1, 2])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 127])
async def test_a_spam_filter(tmp_path, code, reject):
    source = f"{script(tmp_path, 'echo X-Spam: seen; ' + WHOLE)} {code}"
    story = await asked(source, options={"spam": SpamCodes(reject=reject)})
    if code > 2:
        assert "127" in failure(story) or "couldn't" in failure(story) or "status 3" in failure(story)
    elif code == 0 and reject == 1:
        assert story.reply.startswith("554 5.7.1 refused as spam (")
    elif code == 0 and reject == 2:
        assert story.accepted()
        assert story.content is None
    else:
        assert b"X-Spam: seen\r\n" in story.content
        assert story.notes["spam"] == ("spam", "ham", "unsure")[code]


async def test_spam_codes_of_ones_own(tmp_path):
    codes = SpamCodes(spam=10, ham=0, unsure=11, reject=1)
    source = script(tmp_path, WHOLE)
    assert (await asked(f"{source} 10", options={"spam": codes})).refused(554)
    assert (await asked(f"{source} 0", options={"spam": codes})).accepted()
    assert failure(await asked(f"{source} 1", options={"spam": codes})) == "it exited with status 1"


async def test_no_output_at_all():
    assert "gave back nothing" in failure(await asked("true"))
    assert body(await asked("true", options={"empty": "unchanged"})) == MESSAGE


async def test_lines_end_as_the_program_likes_and_as_smtp_wants(tmp_path):
    counts = script(tmp_path, "cat > copy; tr -cd '\\r' < copy | wc -c >&2; cat copy; echo a; printf 'b\\rc\\r\\nd'")
    for ends, carriage_returns in (("lf", 0), ("crlf", 10)):
        story = await asked(counts, folder=tmp_path, options={"line_ends": ends})
        assert f"\n{carriage_returns}\n" in story.exchanges[0].returned + "\n"
        assert body(story) == MESSAGE + b"a\r\nb\r\nc\r\nd"


async def test_a_filter_may_seek_in_its_input(tmp_path):
    source = python(tmp_path, "first = os.read(0, 10); os.lseek(0, 0, 0); assert os.read(0, 10) == first; sys.exit(99)")
    assert (await asked(source)).accepted()


async def test_large_mail_goes_through_files(tmp_path):
    large = MESSAGE + b"0123456789 abcdefghij\r\n" * 200_000
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    story = await asked("sed -e 's/^Subject: /Subject: [x] /'", message=large, scratch=scratch)
    assert body(story) == large.replace(b"Subject: ", b"Subject: [x] ")
    story = await asked("cat", message=large, scratch=scratch)
    assert body(story) == large
    assert "edits" not in story.asked[0]
    small = await asked("head -3", message=large, scratch=scratch)
    assert len(small.content) < 1000
    assert list(scratch.iterdir()) == []


async def test_the_environment_tells_of_the_envelope(tmp_path, monkeypatch):
    monkeypatch.setenv("GATEPOST__SECRET", "x")
    monkeypatch.setenv("FILTERARGS", "x")
    monkeypatch.setenv("FROM_THE_HOUSE", "h")
    out = tmp_path / "env"
    source = script(tmp_path, f"env -0 > {out}; exit 99")
    to = ["ann-news@example.org", "bob@example.net"]
    await asked(source, env={"MINE": "a b", "FROM_THE_HOUSE": "m"}, to=to, user_of_session="carol")
    found = dict(one.split("=", 1) for one in out.read_text().split("\0") if one)
    said = {
        "_SENDER": "dave@bobo.example",
        "_RECIPIENT": "ann-news@example.org",
        "DOMAIN": "example.org",
        "_EXT": "news",
        "QMAILUSER": "dave",
        "QMAILHOST": "bobo.example",
        "QMAILRCPTS": "ann-news@example.org\nbob@example.net\n",
        "NUMRCPTS": "2",
        "TCPREMOTEIP": "192.0.2.1",
        "TCPREMOTEINFO": "carol",
        "AUTHENTICATED": "1",
        "HELO": "client.example",
        "MINE": "a b",
        "FROM_THE_HOUSE": "m",
    }
    assert {key: found.get(key) for key in said} == said
    assert not {"GATEPOST__SECRET", "FILTERARGS"} & set(found)
    await asked(source, sender="")
    found = dict(one.split("=", 1) for one in out.read_text().split("\0") if one)
    assert (found["_SENDER"], found["QMAILUSER"], found["QMAILHOST"]) == ("", "", "")
    assert int(found["MSGSIZE"]) > len(MESSAGE) - MESSAGE.count(b"\r")
    assert "TCPREMOTEINFO" not in found


async def test_words_are_not_for_a_shell_unless_asked_for(tmp_path):
    show = python(tmp_path, f"open({str(tmp_path / 'words')!r}, 'w').write(repr(sys.argv[1:])); sys.exit(99)")
    words = f"{show} '$HOME' \"a b\" '*' ';' '|'"
    assert (await asked(words)).accepted()
    assert (tmp_path / "words").read_text() == repr(["$HOME", "a b", "*", ";", "|"])
    story = await asked("sed -e 's/hello/$_SENDER/' | tr a-z A-Z", options={"shell": True})
    assert b"SUBJECT: $_SENDER\r\n" in story.content
    story = await asked('sed -e "s/hello/$_SENDER/"', options={"shell": True})
    assert b"Subject: dave@bobo.example\r\n" in story.content


async def test_a_sender_is_never_a_command(tmp_path):
    story = await asked('sed -e "s|hello|$_SENDER|"', sender='"`touch${IFS}x`"@bobo.example', options={"shell": True},
                        folder=tmp_path)  # fmt: skip
    assert b"touch" in story.content
    assert list(tmp_path.iterdir()) == []


async def test_who_listens_hears_every_call(tmp_path):
    story = await asked(f"{script(tmp_path, 'echo oops >&2; exit 5')} 'a b'")
    (exchange,) = story.exchanges
    assert exchange.stage == "message"
    assert exchange.passed.startswith(f"{tmp_path}/program.sh 'a b'\n")
    assert "_SENDER='dave@bobo.example'" in exchange.passed
    assert exchange.returned == "exited with status 5, 0 octets on standard output\noops\n"


# ── qmail-qfilter ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_exit_code_of_a_qfilter(tmp_path):
    for code, story in await every_code(script(tmp_path, WHOLE), options={"mode": "qfilter"}):
        if code == 0:
            assert body(story) == MESSAGE
        elif code == 99:
            assert story.verdict("message") == Discard("program exited with status 99")
            assert story.content is None
        elif 11 <= code <= 40 or code == 115:
            assert story.reply.startswith("554 5.7.1 refused by a mail filter (")
            assert not story.errors
        elif code == 71:
            assert story.reply.startswith("451 4.3.0 try again later (")
            assert not story.errors
        else:
            assert failure(story)


async def test_a_chain_of_qfilters(tmp_path):
    first, second = script(tmp_path, "echo X-One: 1; cat", "one"), script(tmp_path, "sed -e s/X-One:/X-Two:/", "two")
    story = await asked(f"{first} -- true -- {second}", options={"mode": "qfilter"})
    assert b"X-Two: 1\r\n" in story.content
    assert b"X-One" not in story.content
    refusing = script(tmp_path, "exit 31", "no")
    assert (await asked(f"{first} -- {refusing} -- {second}", options={"mode": "qfilter"})).refused(554)
    story = await asked(f"{first} -- false -- {second}", options={"mode": "qfilter"})
    assert failure(story) == "it exited with status 1"


async def test_nothing_on_standard_output_is_unchanged_for_a_qfilter():
    assert body(await asked("true", options={"mode": "qfilter"})) == MESSAGE
    assert "gave back nothing" in failure(await asked("true", options={"mode": "qfilter", "empty": "failure"}))


async def test_the_envelope_on_descriptor_3(tmp_path):
    source = script(tmp_path, f"cat <&3 > {tmp_path}/envelope; exit 99")
    await asked(source, to=["ann@example.org", "bob@example.net"], options={"mode": "qfilter"})
    expected = b"Fdave@bobo.example\0Tann@example.org\0Tbob@example.net\0\0"
    assert (tmp_path / "envelope").read_bytes() == expected


@pytest.mark.parametrize(
    ("envelope", "sender", "recipients"),
    [
        (r"Fdave@bobo.example\0Tann@example.org\0\0", "dave@bobo.example", ["ann@example.org"]),
        (r"F\0Tann@example.org\0Tbob@example.net\0\0", "", ["ann@example.org", "bob@example.net"]),
        (r"Fx@y.example\0Tcarol@example.org\0\0", "x@y.example", ["carol@example.org"]),
    ],
)
async def test_another_envelope_on_descriptor_4(tmp_path, envelope, sender, recipients):
    source = script(tmp_path, f"printf '{envelope}' >&4")
    story = await asked(source, to=["ann@example.org", "bob@example.net"], options={"mode": "qfilter"})
    assert (story.sender, story.recipients) == (sender, recipients)
    assert body(story) == MESSAGE


async def test_the_next_qfilter_gets_the_new_envelope(tmp_path):
    first = script(tmp_path, r"printf 'F\0Tcarol@example.org\0\0' >&4", "one")
    second = script(tmp_path, f"cat <&3 > {tmp_path}/envelope", "two")
    story = await asked(f"{first} -- {second}", options={"mode": "qfilter"})
    assert (tmp_path / "envelope").read_bytes() == b"F\0Tcarol@example.org\0\0"
    assert story.recipients == ["carol@example.org"]


@pytest.mark.parametrize(
    "envelope",
    ["x", r"Fa@b.example\0", r"Fa@b.example\0Tann@example.org\0", r"Tann@example.org\0\0", r"Fa@b.example\0Xann\0\0",
     r"Fnot an address\0Tann@example.org\0\0", r"Fa@b.example\0T\0\0", r"F\377\0Tann@example.org\0\0"],
)  # fmt: skip
async def test_a_malformed_envelope_is_a_failure_and_takes_the_edits_with_it(tmp_path, envelope):
    source = script(tmp_path, f"echo X-Seen: 1; cat; printf '{envelope}' >&4")
    story = await asked(source, options={"mode": "qfilter"}, wish=Wish(on_failure="proceed"))
    assert "it gave back" in str(story.errors[0])
    assert body(story) == MESSAGE


async def test_a_qfilter_that_leaves_nobody_and_one_that_wants_another_queue(tmp_path):
    story = await asked(script(tmp_path, r"printf 'Fa@b.example\0\0' >&4"), options={"mode": "qfilter"})
    assert story.accepted()
    assert story.content is None
    story = await asked(script(tmp_path, "echo other-queue >&5"), options={"mode": "qfilter"})
    assert "another queue program" in failure(story)


async def test_a_recipient_without_a_route_cant_be_added(tmp_path):
    source = script(tmp_path, r"printf 'F\0Teve@elsewhere.example\0\0' >&4")
    loaded = await load_program(str(source), options=ProgramOptions(mode="qfilter"))
    async with Rig([loaded], gates=[Gate("*@example.org", OpenTo.ANYONE)]) as rig:
        client = rig.connect()
        await client.reply()
        for line in ("EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<ann@example.org>", "DATA"):
            await client.command(line)
        assert (await client.content(MESSAGE)).startswith("451 ")
        assert await rig.spool.entries() == []
