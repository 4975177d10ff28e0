"""What a plugin's function returned, as a verdict. Pure.

IndiMail sends `mesg` as it is. Here the house writes the reply, so code and text are read from it: a missing code is
550, a missing or broken line end doesn't matter, and nothing can be put behind the reply.
"""

from __future__ import annotations

import re

from gatepost.hooks.verdicts import PROCEED, Hangup, Proceed, Refuse
from gatepost.model import Reply

UNSAID = b"550 rejected by plugin (#5.7.1)\r\n"  # where the original would read through NULL
_CODE = re.compile(r"([2-5][0-9][0-9])(?:[ -]|$)")
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")
_IN_TEXT = re.compile(r"\(#([245]\.[0-9]{1,3}\.[0-9]{1,3})\)")


def read_returned(returned: int, mesg: bytes | None) -> Proceed | Refuse | Hangup:
    """0 is nothing against it, whatever `mesg` says; everything else refuses. A reply of 421 closes the session."""
    if returned == 0:
        return PROCEED
    reply = read_mesg(UNSAID if mesg is None else mesg)
    return Hangup(reply) if reply.code == 421 else Refuse(reply)


def read_mesg(mesg: bytes) -> Reply:
    """The reply that a plugin has written: 4xx or 5xx. One that says success is 550.

    The enhanced status is the one before the text (RFC 2034), or one in the text as qmail writes it, `(#4.3.0)`, which
    stays there. Several lines stay such if each of them is one of the same reply; anything else becomes one line.
    """
    lines = [line for line in re.split(r"[\r\n]+", mesg.decode("utf-8", "replace")) if line.strip()]
    found = _CODE.match(lines[0]) if lines else None
    code = 550 if found is None else int(found[1])
    if found is not None and all(line.startswith(found[1]) and line[3:4] in ("", " ", "-") for line in lines):
        text = "\n".join(line[4:].strip() for line in lines).strip()
    else:
        text = " ".join(line.strip() for line in lines)
        text = text[4:].strip() if found is not None else text
    if code < 400:
        code = 550
    status = ""
    if (given := _STATUS.match(text)) and given[1][0] == str(code)[0]:
        status = given[1]
        text = "\n".join(line.removeprefix(status).strip() for line in text.split("\n"))
    elif (said := _IN_TEXT.search(text)) and said[1][0] == str(code)[0]:
        status = said[1]
    return Reply(code, status, text)
