"""What a sender wishes to hear (RFC 3461): RET and ENVID at MAIL, NOTIFY and ORCPT at RCPT, looked over.

They are kept as they were written, and passed on so; whoever shows one decodes it. What would decode to a control
character is refused here (attack I5), so it never gets that far.
"""

from __future__ import annotations

from gatepost.model import xtext

MAX_ENVID = 100  # characters as written, rfc3461#4.4
MAX_ORCPT = 500  # rfc3461#4.2
MAIL_ROOM = len(" RET=FULL ENVID=") + MAX_ENVID
RCPT_ROOM = len(" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=") + MAX_ORCPT

_OCCASIONS = frozenset({"SUCCESS", "FAILURE", "DELAY"})


def is_ret(value: str) -> bool:
    """What of the message comes back with a failure (rfc3461#4.3)."""
    return value.upper() in ("FULL", "HDRS")


def is_envid(value: str) -> bool:
    """The sender's own name for the message (rfc3461#4.4)."""
    return 0 < len(value) <= MAX_ENVID and xtext.decode(value) is not None


def is_notify(value: str) -> bool:
    """Occasions to be told of, each once, or none (rfc3461#4.1)."""
    asked = value.upper().split(",")
    return asked == ["NEVER"] or (len(set(asked)) == len(asked) and _OCCASIONS.issuperset(asked))


def is_orcpt(value: str) -> bool:
    """The address the message was first sent to (rfc3461#4.2)."""
    return len(value) <= MAX_ORCPT and xtext.original_recipient(value) is not None
