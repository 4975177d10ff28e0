"""Reply text: the house owns the class of the code, plugins the text.

What a plugin or another server said becomes safe lines here, gets the enhanced status it lacks, the token by which it
can be found again, and a length that fits.
"""

from __future__ import annotations

from gatepost.model import Reply

MAX_LINE = 510  # octets without CRLF  # rfc5321#4.5.3.1.5
MAX_LINES = 20


def safe_text(text: str) -> str:
    """The text as safe lines: no control characters, no empty lines, not too many of them."""  # attack I1
    lines = ("".join(c if c.isprintable() else " " for c in line).strip() for line in text.splitlines())
    return "\n".join([line for line in lines if line][:MAX_LINES])


def refusal(said: Reply | str, *, code: int, status: str, token: str, verbatim: bool = False) -> Reply:
    """The refusal to say: `code` and `status` are the stage's own, for a refusal that has none.

    A refusal with a 2xx or 3xx code becomes 550 (attack P8). Without `verbatim` a missing enhanced status is supplied,
    the token appended in parentheses to the last line, and every line cut to fit.
    """
    if isinstance(said, str):
        said = Reply(code, status, said)
    if said.code < 400:
        said = Reply(550, "5.7.1", said.text)
    text = safe_text(said.text)
    if verbatim:
        return Reply(said.code, said.status, text or "refused")
    status = said.status or f"{said.code // 100}.7.1"
    *lines, last = (text or ("try again later" if said.code < 500 else "refused")).split("\n")
    room = MAX_LINE - len("550 ") - len(status) - 1
    end = f" ({token})" if token else ""
    lines = [_cut(line, room) for line in lines]
    lines.append(_cut(last, room - len(end)) + end)
    return Reply(said.code, status, "\n".join(lines))


def success(pending: Reply, said: str) -> Reply:
    """The pending positive reply with another text; its code and status stay."""
    text = safe_text(said)
    return pending.with_text(_cut_lines(text, MAX_LINE - 12)) if text else pending


def _cut_lines(text: str, room: int) -> str:
    return "\n".join(_cut(line, room) for line in text.split("\n"))


def _cut(line: str, room: int) -> str:
    """At most `room` octets of UTF-8, not cut within a character."""
    encoded = line.encode("utf-8", "replace")
    return line if len(encoded) <= room else encoded[:room].decode("utf-8", "ignore")
