"""What a next server said, as we say it while a sender waits for our word.

Strategy: an answer about the mail (x5z) is passed on with its code, as one safe line. An answer about us (a command not
understood, authentication wanted) and silence are our trouble: the sender is asked to come again, and hears neither the
server's name nor ours for the cause, which the log has.
"""

from __future__ import annotations

from gatepost.hooks.replies import safe_text
from gatepost.model import Reply
from gatepost.wire.smtp.client_events import Outcome, Phase

MAX_TEXT = 400  # octets; what we add must still fit  # rfc5321#4.5.3.1.5

NO_ANSWER = Reply(451, "4.4.1", "the next server can't be reached, try again later")
LOST = Reply(451, "4.4.2", "the connection to the next server was lost, try again later")
NOT_NOW = Reply(451, "4.3.2", "the next server isn't available, try again later")
NOT_FOR_US = Reply(451, "4.3.5", "the next server doesn't take our mail, try again later")


def one_line(text: str) -> str:
    """The text as one line without control characters, at most MAX_TEXT octets of UTF-8."""  # attack I4
    line = " ".join(safe_text(text).split("\n"))
    octets = line.encode("utf-8", "replace")
    return line if len(octets) <= MAX_TEXT else octets[:MAX_TEXT].decode("utf-8", "ignore")


def is_about_mail(reply: Reply) -> bool:
    """Whether a negative reply is about this mail, and not about the session it was given in (rfc5321#4.2.1)."""
    return reply.code // 10 % 10 == 5


def passed_on(outcome: Outcome) -> Reply:
    """What our sender hears for a recipient's outcome; 2xx if and only if that is one."""
    reply = outcome.reply
    if outcome.is_ours and not reply.is_permanent:
        return LOST if outcome.phase in (Phase.CONTENT, Phase.END_OF_DATA) else NO_ANSWER
    if reply.code == 421:  # it closes that session, not ours
        return NOT_NOW
    if not (reply.is_positive or is_about_mail(reply)):
        return NOT_FOR_US
    status = reply.status or f"{reply.code // 100}.0.0"
    return Reply(reply.code, status, one_line(reply.text) or ("ok" if reply.is_positive else "refused"))
