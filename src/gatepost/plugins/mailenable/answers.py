"""What `Execute` means by the number it returns and the text it leaves in its Response.

0 fails the command, anything else doesn't. The text is a reply, `550 5.7.1 why`, or nothing; a Response that is as it
was passed says nothing either. What contradicts itself, a success with a 4xx or 5xx text, is no answer, and goes the
way of every failure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatepost.hooks import stages
from gatepost.hooks.answers import AnswerError
from gatepost.hooks.verdicts import PROCEED, Hangup, Proceed, Refuse
from gatepost.model import Reply

REJECTED = Reply(550, "5.7.1", "rejected by plugin")
CLOSING = 421  # with it the server leaves  # rfc5321#3.8

_CODE = re.compile(r"(\d{3})(?:[ \t-]+|$)", re.ASCII)
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|$)", re.ASCII)
_SHOWN = 120  # characters of a response in a note


@dataclass(frozen=True, slots=True)
class Meaning:
    """The verdict, and the text of the positive reply if the plugin has one."""

    verdict: Proceed | Refuse | Hangup
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A response as read: its code (0: it has none), its status, its text in one line or in lines of one reply."""

    code: int
    status: str
    text: str


def understand(returned: int, response: str, pending: str, stage: type[stages.Event]) -> Meaning:
    """What it comes to at a stage, `pending` having been passed as the response. AnswerError."""
    said = None if _is_silent(response, pending) else read_response(response)
    if returned == 0:
        if said is None or not 400 <= said.code <= 599:
            return Meaning(Refuse(REJECTED))
        reply = Reply(said.code, said.status, said.text)
        return Meaning(Hangup(reply) if said.code == CLOSING else Refuse(reply))
    if said is None:
        return Meaning(PROCEED)
    if 400 <= said.code <= 599:
        raise AnswerError(f'it returned {returned}, which is success, with "{shown(response)}"')
    if stage is stages.Data or not said.text:  # the 354 isn't a plugin's to say
        return Meaning(PROCEED)
    return Meaning(PROCEED, said.text)


def read_response(response: str) -> Response:
    """The reply in a response, whatever it is. Lines of one reply stay lines; other line ends become blanks."""
    lines = [line for line in (line.strip() for line in re.split(r"[\r\n]+", response)) if line]
    first = _CODE.match(lines[0]) if lines else None
    code = 0 if first is None else int(first[1])
    if first is None or not 200 <= code <= 599:
        return Response(0, "", " ".join(lines))
    bare = [_without_code(line, first[1]) for line in lines]
    texts = [" ".join([lines[0][first.end() :], *lines[1:]])] if None in bare else [text for text in bare if text]
    status = _STATUS.match(texts[0]) if texts else None
    found = "" if status is None or status[1][0] != first[1][0] else status[1]
    if found:
        texts = [text.removeprefix(found).strip() for text in texts]
    return Response(code, found, "\n".join(text for text in texts if text))


def describe(returned: int, response: str, pending: str) -> str:
    """What came back, for a person: "→ 1, no text"."""
    if not response.strip():
        return f"→ {returned}, no text"
    if _is_silent(response, pending):
        return f"→ {returned}, text untouched"
    return f'→ {returned}, "{shown(response)}"'


def shown(response: str) -> str:
    """The response as one line of bounded length."""
    line = "".join(c if c.isprintable() else " " for c in response[: 2 * _SHOWN]).strip()
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _is_silent(response: str, pending: str) -> bool:
    return response.strip() in ("", pending)


def _without_code(line: str, code: str) -> str | None:
    """What follows the code; None if the line begins with another one, or none."""
    found = _CODE.match(line)
    return line[found.end() :].strip() if found is not None and found[1] == code else None
