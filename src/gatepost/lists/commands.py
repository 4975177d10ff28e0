"""What a mail to a list's -request address asks for: its subject, or the first lines of its text.

Strategy: the first line that is a command counts; prose isn't one, and of a text only the beginning is decoded. Quoted
lines and what follows a signature are nobody's words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from gatepost.content.headers import Section
from gatepost.content.plain_text import first_text
from gatepost.content.values import read_value
from gatepost.model import Blob

_READ = 4096  # octets of the text
_LINES = 10
_ANSWER = re.compile(r"^(?:(?:re|aw|sv|antw|fwd?|wg)(?:\[\d{1,3}\])?\s*:\s*)++", re.IGNORECASE)
_COMMAND = re.compile(
    r"(?P<word>help|info|end|who|subscribe|join|unsubscribe|leave|remove|confirm|set)(?:\s+(?P<rest>[^\n]{1,80}?))?\s*[.?!]?",
    re.IGNORECASE,
)
_ENDS = ("--", "-- ", "end")


class Wish(Enum):
    """What is asked for."""

    HELP = "help"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    CONFIRM = "confirm"
    WHO = "who"
    MAIL = "mail"
    NOMAIL = "nomail"
    VACATION = "vacation"


_WORDS = {
    "help": Wish.HELP,
    "info": Wish.HELP,
    "who": Wish.WHO,
    "subscribe": Wish.SUBSCRIBE,
    "join": Wish.SUBSCRIBE,
    "unsubscribe": Wish.UNSUBSCRIBE,
    "leave": Wish.UNSUBSCRIBE,
    "remove": Wish.UNSUBSCRIBE,
    "confirm": Wish.CONFIRM,
}


@dataclass(frozen=True, slots=True)
class Command:
    """A wish; `argument` is CONFIRM's token, VACATION's last day as `2030-12-24`, "" for all others."""

    wish: Wish
    argument: str = ""


def read_command(section: Section, content: Blob, *names: str) -> Command | None:
    """The first command of a mail; None where there is none. `names` are what may follow "subscribe": the list's."""
    subjects = section.raw_values("subject")
    subject = _ANSWER.sub("", read_value(subjects[0])[:200].strip()) if subjects else ""
    if (found := command_of(subject, *names)) is not None:
        return found
    seen = 0
    for written in first_text(content, _READ).split("\n"):
        line = written.strip()
        if written.rstrip("\n") in _ENDS or line.lower() == "end" or seen >= _LINES:
            return None
        if not line or line.startswith(">"):
            continue
        seen += 1
        if (found := command_of(line, *names)) is not None:
            return found
    return None


def command_of(line: str, *names: str) -> Command | None:
    """The command that a line is, in any case, with a full stop or question mark or without."""
    found = _COMMAND.fullmatch(line.strip())
    if found is None:
        return None
    word, rest = found["word"].lower(), (found["rest"] or "").strip()
    if word == "set":
        return _setting(rest.lower())
    wish = _WORDS.get(word)
    if wish is None:
        return None
    if wish is Wish.CONFIRM:
        return Command(wish, rest.lower()) if rest else None
    return Command(wish) if not rest or rest.lower() in names else None


def last_day(argument: str) -> float | None:
    """When a day written as `2030-12-24` is over (s, Unix time, UTC); None for anything else."""
    if not argument.isascii():
        return None
    try:
        day = datetime.strptime(argument, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return day.timestamp() + 86_400.0


def shown_day(until: float) -> str:
    """The day, as `2030-12-24`, that is over at this moment (s, Unix time): what `last_day` was asked for."""
    return f"{datetime.fromtimestamp(until - 1, UTC):%Y-%m-%d}"


def _setting(text: str) -> Command | None:
    match text.split():
        case ["mail"] | ["vacation", "off"] | ["nomail", "off"]:
            return Command(Wish.MAIL)
        case ["nomail"]:
            return Command(Wish.NOMAIL)
        case ["vacation", day] if last_day(day) is not None:
            return Command(Wish.VACATION, day)
        case _:
            return None
