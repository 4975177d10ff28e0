"""Commands in mail: the first line that is one, of a subject or of a text in any encoding."""

from __future__ import annotations

import pytest

from gatepost.content.headers import read_section
from gatepost.lists.commands import Command, Wish, command_of, last_day, read_command
from gatepost.model import Bytes


def _read(content: bytes) -> Command | None:
    blob = Bytes(content)
    return read_command(read_section(blob), blob, "news", "news@example.org")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("help", Command(Wish.HELP)),
        ("  Who? ", Command(Wish.WHO)),
        ("SUBSCRIBE news", Command(Wish.SUBSCRIBE)),
        ("subscribe News@Example.org.", Command(Wish.SUBSCRIBE)),
        ("subscribe to my channel", None),
        ("leave", Command(Wish.UNSUBSCRIBE)),
        ("confirm ABCD", Command(Wish.CONFIRM, "abcd")),
        ("confirm", None),
        ("set nomail", Command(Wish.NOMAIL)),
        ("set vacation 2030-02-30", None),
        ("set vacation 2030-02-28", Command(Wish.VACATION, "2030-02-28")),
        ("set fire", None),
        ("end", None),
        ("helpful", None),
        ("", None),
        ("help " + "x" * 10_000, None),
    ],
)
def test_a_line(line: str, command: Command | None) -> None:
    assert command_of(line, "news", "news@example.org") == command


def test_where_a_command_may_stand() -> None:
    assert _read(b"Subject: Re: AW: Re[2]: help\r\n\r\nunsubscribe\r\n") == Command(Wish.HELP)
    assert _read(b"Subject: =?utf-8?b?aGVscA==?=\r\n\r\n") == Command(Wish.HELP)
    assert _read(b"Subject: question\r\n\r\nDear list,\r\n\r\nunsubscribe\r\n") == Command(Wish.UNSUBSCRIBE)
    assert _read(b"\r\n" + b"> help\r\n" * 20 + b"who\r\n") == Command(Wish.WHO)
    assert _read(b"\r\nend\r\nhelp\r\n") is None
    assert _read(b"\r\nHi\r\n-- \r\nhelp\r\n") is None
    assert _read(b"\r\n" + b"prose\r\n" * 10 + b"help\r\n") is None
    assert _read(b"\r\n" + b"\r\n" * 5000 + b"help\r\n") is None
    assert _read(b"") is None


def test_encoded_texts() -> None:
    assert _read(b"Content-Transfer-Encoding: base64\r\n\r\naGVscAo=\r\n") == Command(Wish.HELP)
    assert _read(b"Content-Transfer-Encoding: quoted-printable\r\n\r\nset=20nomail\r\n") == Command(Wish.NOMAIL)
    bomb = b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QUFB" * 1_000_000
    assert _read(bomb) is None


def test_a_last_day_is_over_at_midnight() -> None:
    assert last_day("1970-01-01") == 86_400.0
    assert last_day("soon") is None
    assert last_day("0000-01-01") is None
