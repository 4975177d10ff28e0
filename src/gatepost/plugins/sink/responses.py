"""A sink's response, a text, to the reply that is said, and the house's reply to a text. Contract: Ambiguities 4, 5."""

from __future__ import annotations

import re

from gatepost.hooks.replies import safe_text
from gatepost.model import Reply
from gatepost.plugins.sink.constants import (
    EXPE_BLOB_READY,
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_TRANSIENT_FAILURE,
)

_LINE = re.compile(r"([2-5][0-9][0-9])(?:([ -])(.*))?\Z", re.ASCII | re.DOTALL)
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|\Z)", re.ASCII)
_DROPPED, _LATER, _REFUSED, _GO_ON, _DONE = 421, 451, 554, 354, 250
_WORDS = {
    _DROPPED: "closing the connection",
    _LATER: "try again later",
    _REFUSED: "refused",
    _GO_ON: "go on",
    _DONE: "ok",
}


def text_of_reply(reply: Reply) -> str:
    """The reply as it stands on the wire: each line with the code, CRLF behind it."""
    *lines, last = reply.lines
    status = f"{reply.status} " if reply.status else ""
    before = "".join(f"{reply.code}-{status}{line}\r\n" for line in lines)
    return f"{before}{reply.code} {status}{last}".rstrip() + "\r\n"


def reply_of(text: str, code: int, status: int) -> Reply:
    """The reply that a response comes to. Its own code counts; one that has none gets `code`, the one that the sink has
    set, and else that which the command's `status` stands for.
    """
    lines = [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip("\0 \t")]
    own: int | None = None
    enhanced = ""
    said: list[str] = []
    for at, line in enumerate(lines):
        written = line.strip("\0")
        if (found := _LINE.match(written)) is not None:
            own = int(found[1]) if own is None else own
            written = found[3] or ""
        if (begins := _STATUS.match(written)) is not None and (at == 0 or begins[1] == enhanced):
            enhanced = begins[1]
            written = written[begins.end() :]
        said.append(written)
    number = own or (code if 200 <= code <= 599 else code_for(status))
    if enhanced and enhanced[0] != str(number)[0]:
        enhanced = ""
    words = safe_text("\n".join(said))
    return Reply(number, enhanced, words or _WORDS.get(number, "ok" if number < 400 else "refused"))


def code_for(status: int) -> int:
    """The code of a response without one."""
    if status & EXPE_DROP_SESSION:
        return _DROPPED
    if status & EXPE_TRANSIENT_FAILURE:
        return _LATER
    if status & EXPE_COMPLETE_FAILURE:
        return _REFUSED
    return _GO_ON if status & EXPE_BLOB_READY else _DONE
