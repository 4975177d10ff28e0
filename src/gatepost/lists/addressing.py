"""A list's addresses: what each is for. Those that carry who or what is meant are signed: nobody else makes one.

A list `news@example.org` has `news-owner@`, `news-request@`, `news-bounces+MEMBER-SIGNATURE@` and so on. A signature is
a shortened HMAC-SHA256 (RFC 2104 §5) in base32: some servers change the case of local parts, so case counts nowhere.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Callable
from enum import Enum

from gatepost.model import Path
from gatepost.store.lists_facts import MailingList, check_address

_SIGNATURE = 10  # characters, 50 bits: each guess is a message that somebody has to send
_EXTENSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,39}", re.ASCII)


class Purpose(Enum):
    """What an address of a list is for; the value stands between the list's local part and the extension."""

    POST = ""
    OWNER = "-owner"
    REQUEST = "-request"
    SUBSCRIBE = "-subscribe"
    UNSUBSCRIBE = "-unsubscribe"
    CONFIRM = "-confirm"
    BOUNCES = "-bounces"
    PROBE = "-probe"
    APPROVE = "-approve"
    REFUSE = "-refuse"


_EXTENDED = frozenset({Purpose.CONFIRM, Purpose.BOUNCES, Purpose.PROBE, Purpose.APPROVE, Purpose.REFUSE})
"""Those that have an extension, all but BOUNCES always."""


def purpose_of(list_address: Path | str, recipient: Path) -> tuple[Purpose, str] | None:
    """What a recipient is for, if it is an address of the list, and its extension ("" for none); else None."""
    own = _path(list_address)
    name, local = own.local.lower(), recipient.local
    if recipient.domain != own.domain or not local.isascii() or local[: len(name)].lower() != name:
        return None
    word, plus, extension = local[len(name) :].partition("+")
    try:
        purpose = Purpose(word.lower())
    except ValueError:
        return None
    if purpose not in _EXTENDED:
        return None if plus else (purpose, "")
    if not plus:
        return (purpose, "") if purpose is Purpose.BOUNCES else None
    return (purpose, extension) if _EXTENSION.fullmatch(extension) else None


def address_for(list_address: Path | str, purpose: Purpose, extension: str = "") -> Path:
    """The address of a list for a purpose."""
    own = _path(list_address)
    plus = f"+{extension}" if extension else ""
    return Path(f"{own.local}{purpose.value}{plus}", own.domain)


def covers(list_address: Path | str) -> Callable[[Path], bool]:
    """Whether an address is one of the list's; for its routes, which are asked about everybody's mail."""
    own = _path(list_address)
    name, domain = own.local.lower(), own.domain

    def is_one(path: Path) -> bool:
        is_near = path.domain == domain and path.local[: len(name)].lower() == name
        return is_near and purpose_of(own, path) is not None

    return is_one


def sign(secret: bytes, *parts: str) -> str:
    """A short signature over these parts, told apart from each other; lower-case letters and digits."""
    told_apart = b"".join(b"%d:%b" % (len(part), part) for part in (one.lower().encode() for one in parts))
    digest = hmac.digest(secret, told_apart, "sha256")
    return b32encode(digest)[:_SIGNATURE].decode("ascii").lower()


def signed(secret: bytes, value: str, *parts: str) -> str:
    """`VALUE-SIGNATURE`: a value with a signature over the parts and itself."""
    return f"{value}-{sign(secret, *parts, value)}"


def unsigned(secret: bytes, text: str, *parts: str) -> str | None:
    """The value of `VALUE-SIGNATURE`; None if it is forged, or signed for other parts."""
    value, dash, signature = text.rpartition("-")
    if not dash or not text.isascii():
        return None
    return value if hmac.compare_digest(sign(secret, *parts, value), signature.lower()) else None


def bounces_address(mailing_list: MailingList, member: int, secret: bytes) -> Path:
    """The return path of one member's copies (VERP)."""
    extension = signed(secret, str(member), "bounces", mailing_list.name)
    return address_for(mailing_list.address, Purpose.BOUNCES, extension)


def bounced_member(mailing_list: MailingList, extension: str, secret: bytes) -> int | None:
    """The member's id that the extension of a -bounces address carries; None if it is forged."""
    return _number(unsigned(secret, extension, "bounces", mailing_list.name))


def decision_address(mailing_list: MailingList, purpose: Purpose, ticket: str, secret: bytes) -> Path:
    """Where a moderator writes to approve (Purpose.APPROVE) or refuse (Purpose.REFUSE) a held post."""
    return address_for(mailing_list.address, purpose, signed(secret, ticket.lower(), purpose.value, mailing_list.name))


def decided_ticket(mailing_list: MailingList, purpose: Purpose, extension: str, secret: bytes) -> str | None:
    """The ticket that the extension of such an address carries, as tickets are written; None if it is forged."""
    found = unsigned(secret, extension, purpose.value, mailing_list.name)
    return None if found is None else found.upper()


def unsubscribe_token(member: int, secret: bytes) -> str:
    """What an unsubscribe link carries instead of a login (RFC 8058 §3.1): who has it may unsubscribe this member."""
    return signed(secret, str(member), "unsubscribe")


def unsubscribing_member(token: str, secret: bytes) -> int | None:
    """The member's id in such a token; None if it is forged."""
    return _number(unsigned(secret, token, "unsubscribe"))


def _number(text: str | None) -> int | None:
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < 19
    return int(text) if text is not None and is_number else None


def _path(list_address: Path | str) -> Path:
    return check_address(list_address) if isinstance(list_address, str) else list_address
