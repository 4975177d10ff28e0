"""Scanners, which judge by their exit code, and MailEnable's pickup programs, which judge by two files."""

import re
from pathlib import Path

import pytest

from gatepost.hooks.verdicts import Discard, Quarantine
from unit.plugins_program.program_scripts import MESSAGE, asked, body, every_code, failure, python, script

SCAN = {"mode": "scan", "hit": "1, 4, 8-32", "error": "2, 64-"}


async def test_every_exit_code_of_a_scanner(tmp_path):
    source = script(tmp_path, 'exit "$1"')
    for code, story in await every_code(source, options=SCAN):
        if code in {1, 4, *range(8, 33)}:
            assert story.reply.startswith("554 5.7.1 refused by a scanner (")
            assert not story.errors
        elif code in {126, 127}:
            assert failure(story) == f"it couldn't be begun: {code}"
        elif code == 2 or code >= 64:
            assert failure(story) == f"it exited with status {code}, one of its errors"
        else:
            assert body(story) == MESSAGE
            assert story.notes["exit"] == str(code)


async def test_a_program_that_cant_be_begun_is_never_a_hit(tmp_path):
    broken = script(tmp_path, "")
    broken.write_text("#!/no/such/interpreter\n")
    options = {"mode": "scan", "hit": "1-"}
    assert "couldn't be begun" in failure(await asked(broken, options=options))
    leaving = script(tmp_path, 'rm "$0"; exit 0', "leaving")
    assert (await asked(leaving, options=options)).accepted()


async def test_what_a_hit_comes_to(tmp_path):
    source = f"{script(tmp_path, 'exit 1')}"
    story = await asked(source, options={**SCAN, "text": "no viruses, please"})
    assert story.reply.startswith("554 5.7.1 no viruses, please (")
    story = await asked(source, options={**SCAN, "action": "quarantine"})
    assert story.verdict("message") == Quarantine("program exited with status 1")
    assert story.held is not None
    story = await asked(source, options={**SCAN, "action": "discard"})
    assert story.verdict("message") == Discard("program exited with status 1")
    assert story.content is None
    story = await asked(source, options={**SCAN, "action": "tag", "header": "X-Spam-Flag: YES"})
    assert b"X-Spam-Flag: YES\r\n" in story.content
    clean = await asked("true", options={**SCAN, "action": "tag", "header": "X-Spam-Flag: YES"})
    assert body(clean) == MESSAGE


@pytest.mark.parametrize("is_shell", [False, True])
async def test_the_place_of_the_message_is_a_private_copy(tmp_path, is_shell):
    scratch = tmp_path / "with a blank"
    scratch.mkdir()
    source = script(tmp_path, 'cat "$1" > copy; echo "$1" > path; echo ruined > "$1"; echo Eicar found; exit 4')
    words = f"{source} {{EMAILFILESPEC}}"
    large = MESSAGE + b"0123456789\r\n" * 10_000  # so that it is there and not in memory
    for message in (MESSAGE, large):
        story = await asked(
            words, message=message, scratch=scratch, folder=tmp_path, options={**SCAN, "shell": is_shell}
        )
        assert story.refused(554)
        assert (tmp_path / "copy").read_bytes().endswith(message)
        path = Path((tmp_path / "path").read_text().strip())
        assert path.is_absolute()
        assert not path.exists()
        assert story.notes["said"] == "Eicar found"
    assert scratch in path.parents
    assert list(scratch.iterdir()) == []
    tagged = {**SCAN, "action": "tag", "header": "X-Hit: yes", "shell": is_shell}
    assert b"ruined" not in (await asked(words, folder=tmp_path, options=tagged)).content


async def test_a_scanner_may_say_much_and_read_nothing(tmp_path):
    source = script(tmp_path, "head -c 20000000 /dev/zero; exit 4")
    assert (await asked(source, options=SCAN)).refused(554)


# ── MailEnable's pickup ────────────────────────────────────────────────────────────────────────────────────────────

PICKUP = {"mode": "pickup"}
FIND = 'cd "$GATEPOST_PICKUP/QUEUES/$2/Inbound"; '


async def test_every_exit_code_of_a_pickup_program(tmp_path):
    source = script(tmp_path, 'exit "$1"')
    for nonzero in ("ignore", "hold", "retry"):
        for code in (0, 1, 2, 31, 99, 100, 125, 128, 255):
            story = await asked(f"{source} {code}", options={**PICKUP, "nonzero": nonzero})
            if code == 0 or nonzero == "ignore":
                assert body(story) == MESSAGE
                assert story.held is None
            elif nonzero == "hold":
                assert story.verdict("message") == Quarantine(f"program exited with status {code}")
                assert body(story) == MESSAGE
            else:
                assert failure(story) == f"it exited with status {code}"
        for code in (126, 127):
            assert "couldn't be begun" in failure(await asked(f"{source} {code}", options=PICKUP))


async def test_the_files_are_where_a_pickup_program_looks(tmp_path):
    source = script(
        tmp_path, f'echo "$@" > {tmp_path}/words; {FIND} cp "$1" {tmp_path}/command; cp "Messages/$1" {tmp_path}/mail'
    )
    message = MESSAGE.replace(b"hello\r\n", b"hello\r\n there=yes\r\n")
    to = ["ann@example.org", "bob@example.net"]
    await asked(source, message=message, to=to, user_of_session="carol", options={**PICKUP, "connector": "LS"})
    name, connector = (tmp_path / "words").read_text().split()
    assert re.fullmatch(r"[0-9A-F]{32}\.MAI", name)
    assert connector == "LS"
    assert (tmp_path / "mail").read_bytes().endswith(message)
    lines = (tmp_path / "command").read_bytes().decode().split("\r\n")
    assert [line.partition("=")[0] for line in lines] == [
        "Recipients", "Server", "Sender", "TimeAcquired", "ClientIP", "AuthenticationStatus", "User", "Account",
        "Status", "CommandType", "Subject", "",
    ]  # fmt: skip
    found = dict(line.split("=", 1) for line in lines if line)
    assert found.pop("TimeAcquired").isdecimal()
    assert found == {
        "Recipients": "[SMTP:ann@example.org]; [SMTP:bob@example.net]",
        "Server": "mx.test",
        "Sender": "[SMTP:dave@bobo.example]",
        "ClientIP": "192.0.2.1",
        "AuthenticationStatus": "1",
        "User": "carol",
        "Account": "example.org",
        "Status": "Delivering",
        "CommandType": "MESSAGE",
        "Subject": "hello there=yes",
    }


@pytest.mark.parametrize("filler", [0, 100_000])
async def test_a_message_file_edited_in_place_is_the_mail(tmp_path, filler):
    message = MESSAGE + b"0123456789\r\n" * (filler // 10)
    change = f"""{FIND} sed -e 's/^Subject: /Subject: [x] /' "Messages/$1" > new; mv new "Messages/$1" """
    story = await asked(script(tmp_path, change), message=message, options=PICKUP)
    assert body(story) == message.replace(b"Subject: ", b"Subject: [x] ")
    assert story.recipients == ["ann@example.org"]
    story = await asked(script(tmp_path, f'{FIND} printf "X: y\\n\\nz\\n" > "Messages/$1"'), options=PICKUP)
    assert story.content == b"X: y\r\n\r\nz\r\n"


async def test_deletion_drops_the_mail_and_half_a_deletion_doesnt(tmp_path):
    for gone in ('"$1" "Messages/$1"', '"$1"'):
        story = await asked(script(tmp_path, f"{FIND} rm {gone}"), options=PICKUP)
        assert story.verdict("message") == Discard("program took it away")
        assert story.content is None
    assert "left the command file" in failure(await asked(script(tmp_path, f'{FIND} rm "Messages/$1"'), options=PICKUP))


@pytest.mark.parametrize(
    ("change", "sender", "recipients"),
    [
        ("s/^Recipients=.*/Recipients=[SMTP:carol@example.org];[SMTP:ann@example.org]/", "dave@bobo.example",
         ["ann@example.org", "carol@example.org"]),
        ("s/^Recipients=.*/Recipients=[SMTP:carol@example.org] ; [smtp:dan@example.org]/", "dave@bobo.example",
         ["carol@example.org", "dan@example.org"]),
        ("s/^Recipients=.*/Recipients=carol@example.org/; s/^Sender=.*/Sender=/", "", ["carol@example.org"]),
        ("s/^Sender=.*/Sender=[SMTP:x@y.example]/", "x@y.example", ["ann@example.org"]),
        ("s/^Status=.*/Status=Undelivered/", "dave@bobo.example", ["ann@example.org"]),
    ],
)  # fmt: skip
async def test_the_command_file_may_be_edited_too(tmp_path, change, sender, recipients):
    source = script(tmp_path, f"""{FIND} tr -d '\\r' < "$1" | sed -e '{change}' > new; mv new "$1" """)
    story = await asked(source, options=PICKUP)
    assert (story.sender, story.recipients) == (sender, recipients)
    assert body(story) == MESSAGE


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ('echo half > "Messages/$1"; kill -9 $$', "was ended by SIGKILL"),
        ('echo half > "Messages/$1"; kill -SEGV $$', "was ended by SIGSEGV"),
        (': > "Messages/$1"', "gave back nothing"),
        ('rm "Messages/$1"; ln -s /etc/passwd "Messages/$1"', "can't be read"),
        ('rm "Messages/$1"; ln /bin/sh "Messages/$1" || mkfifo "Messages/$1"', "isn't a plain file"),
        ('rm "Messages/$1"; mkfifo "Messages/$1"', "isn't a plain file"),
        ('rm "Messages/$1"; mkdir "Messages/$1"', "isn't a plain file"),
        ('head -c 2000000 /dev/zero > "Messages/$1"', "more than 1000000 octets"),
        ('printf "Recipients=[SMTP:nobody]\\n" > "$1"', "it gave back 'nobody'"),
        ('printf "Sender=\\377\\n" > "$1"', "isn't UTF-8"),
    ],
)
async def test_what_isnt_a_whole_answer_is_a_failure(tmp_path, act, words):
    story = await asked(script(tmp_path, FIND + act), options={**PICKUP, "output_size": 1_000_000})
    assert words in failure(story)


async def test_a_pickup_program_in_a_shell_gets_its_words_too(tmp_path):
    source = python(tmp_path, "open('words', 'w').write(repr(sys.argv[1:]))")
    await asked(f"X=1 {source} a", options={**PICKUP, "shell": True}, folder=tmp_path)
    assert re.fullmatch(r"\['a', '[0-9A-F]{32}\.MAI', 'SMTP'\]", (tmp_path / "words").read_text())
