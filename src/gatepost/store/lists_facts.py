"""What is known of mailing lists and of those who are on them: frozen facts, and what must hold of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, get_args

from gatepost.model import AddressError, Path
from gatepost.model.path import parse_domain

Post = Literal["open", "members", "moderated", "announce"]
Strangers = Literal["refuse", "hold"]
Subscribing = Literal["open", "confirm", "moderated", "closed"]
FromPolicy = Literal["as-is", "rewrite", "rewrite-if-dmarc"]
Mode = Literal["mail", "nomail"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
_LONGEST_LOCAL = 26
"""What leaves room for `-approve+TICKET-SIGNATURE` within the 64 octets of a local part (rfc5321#4.5.3.1.1)."""
_LONGEST_TEXT = 200
_LONGEST_URL = 500  # what a line of a header leaves room for
_AFTER_GLOBS = re.compile(r"[^*?.][^*?]*\Z")
_LARGEST = 1 << 63
_MOST = 1000


class ListError(Exception):
    """What was asked of the lists can't be; the text says why and what to do."""


class Trouble(Enum):
    """Why the lists' database can't answer; the value says what to do."""

    BUSY = "another process keeps it locked; try again"
    FULL = "no space is left on the disk; make room, and try again"
    FORBIDDEN = "it can't be read and written; run this as the server's user, on a disk that isn't read-only"
    DAMAGED = "it is damaged; stop the server, keep the file, and put a copy from before in its place"
    OTHER = "the disk or the database has failed"


class Unavailable(ListError):
    """The fault isn't in the question: the database can't answer."""

    def __init__(self, text: str, trouble: Trouble) -> None:
        super().__init__(text)
        self.trouble = trouble


class UnknownList(ListError):
    """There is no list of that name."""


class Taken(ListError):
    """The name or the address belongs to a list already, or the member is on it."""


@dataclass(frozen=True, slots=True)
class ListOptions:
    """How a list works. Every field has a default; what an older version has kept is read with today's."""

    description: str = ""
    """One line for people: in the help mail and in List-Id."""
    owners: tuple[str, ...] = ()
    """Addresses that are told of what happens to the list, and get the mail to its -owner address."""
    moderators: tuple[str, ...] = ()
    """Addresses that decide about held posts; empty: the owners."""
    post: Post = "members"
    """Who may post: anyone, members, everyone after a moderator's approval, or only `posters`."""
    posters: tuple[str, ...] = ()
    """Patterns of further addresses that may post without being asked, `*@example.org`."""
    strangers: Strangers = "refuse"
    """What becomes of a post by somebody who may not: refused in the session, or held for a moderator."""
    subscribe: Subscribing = "confirm"
    """How one gets onto the list by mail: at once, after confirming, after a moderator's approval, or not at all."""
    max_size: int = 0
    """Octets of a post; 0: the server's limit."""
    attachments: Literal["any", "none"] | tuple[str, ...] = "any"
    """Which attachments a post may have; patterns of MIME types, `image/*`."""
    reply_to: str = "sender"
    """Where replies go: `sender`, `list`, or an address."""
    from_: FromPolicy = "as-is"
    """Whether From becomes the list's address: never, always, or where its domain's DMARC policy asks for it."""
    subject_prefix: str = ""
    """What subjects begin with, `[news]`."""
    verp: bool = True
    """Whether every member's copy has a return path of its own."""
    bounce_limit: float = 5.0
    """The bounce score at which a member gets no mail until a probe has come through."""
    bounce_days: int = 7
    """Days without a bounce after which the score is forgotten."""
    archive: bool = False
    """Whether posts are kept as text, an mbox file a month."""
    unsubscribe_url: str = ""
    """The https address of one-click unsubscription, with {token} in it; "": none."""


@dataclass(frozen=True, slots=True)
class MailingList:
    """One list. `name` is a safe name (lower-case letters, digits, `._-`), so it may stand in paths and commands."""

    name: str
    address: str
    options: ListOptions = ListOptions()


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody on a list. `id` is never given to anybody else. Times are Unix time in seconds."""

    id: int
    list: str
    address: str
    display: str
    since: float
    mode: Mode = "mail"
    vacation_until: float | None = None
    moderated: bool = False
    """Whether a moderator sees this member's posts first."""
    score: float = 0.0
    """How many bounces count."""
    bounced_at: float | None = None
    probed_at: float | None = None
    stopped_at: float | None = None
    """Since when bounces have kept mail away; None: they don't."""

    def takes_mail(self, now: float) -> bool:
        """Whether posts go to this member now."""
        away = self.vacation_until is not None and now < self.vacation_until
        return self.mode == "mail" and self.stopped_at is None and not away


@dataclass(frozen=True, slots=True)
class Pending:
    """Something an address has been asked to confirm: `action` on `list`."""

    token: str
    list: str
    address: str
    action: str
    asked_at: float
    until: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What a moderator has decided about a held post. `by` is an address, or "command"."""

    ticket: str
    approved: bool
    by: str
    at: float


def check_name(name: str) -> str:
    """The name, if it is a safe one (I10); ListError."""
    if _NAME.fullmatch(name) is None or ".." in name:
        raise ListError(
            f'"{name[:80]}" can\'t be a list\'s name: it has lower-case letters, digits, ".", "_" and "-" only, begins '
            "and ends with a letter or digit, and has at most 64 of them"
        )
    return name


def check_address(address: str) -> Path:
    """A list's address, if it can have sub-addresses like `news-bounces+…@`; ListError."""
    path = checked_path(address)
    if not path.domain or "+" in path.local or not path.local.isascii():
        raise ListError(
            f'"{address}" can\'t be a list\'s address: it needs a domain, and a local part in ASCII without "+"'
        )
    if len(path.local) > _LONGEST_LOCAL:
        raise ListError(f"{address}: a list's local part has at most {_LONGEST_LOCAL} characters")
    return path


def checked_path(address: str) -> Path:
    """An address as a path; ListError."""
    try:
        path = Path.parse(address)
    except AddressError as error:
        raise ListError(f'"{address[:80]}" is no address: {error}') from error
    if not path:
        raise ListError("an address is missing")
    return path


def checked_options(options: ListOptions) -> ListOptions:
    """The options as they are kept, every address spelled as it is in a message; ListError that names the first that
    can't work.
    """
    check_options(options)
    return replace(
        options,
        owners=tuple(spelled("owners", one) for one in options.owners),
        moderators=tuple(spelled("moderators", one) for one in options.moderators),
        posters=tuple(spelled("posters", one) for one in options.posters),
        reply_to=spelled("reply_to", options.reply_to),
    )


def spelled(field: str, value: str) -> str:
    """One address or pattern of an option, its domain as A-labels (rfc5890#2.3.2.1); what is neither as it is."""
    if field == "posters":
        local, at, domain = value.rpartition("@")
        fixed = _AFTER_GLOBS.search(domain)
        if not at or domain.isascii() or fixed is None:
            return value
        try:
            return f"{local}@{domain[: fixed.start()]}{parse_domain(fixed[0])}"
        except AddressError:
            return value
    if field not in ("owners", "moderators", "reply_to") or value in ("sender", "list"):
        return value
    try:
        return Path.parse(value).address
    except AddressError:
        return value


def check_options(options: ListOptions) -> None:
    """Whether every option has a value that works; ListError that names the first that hasn't."""
    for field, allowed in (
        ("post", Post), ("strangers", Strangers), ("subscribe", Subscribing), ("from_", FromPolicy),
    ):  # fmt: skip
        _check_word(field, getattr(options, field), get_args(allowed))
    if isinstance(options.attachments, str):
        _check_word("attachments", options.attachments, ("any", "none"), ", or patterns of MIME types like image/*")
    for field in ("owners", "moderators"):
        for address in getattr(options, field):
            _check_person(field, address)
    if options.reply_to not in ("sender", "list"):
        _check_person("reply_to is sender, list or an address", options.reply_to)
    _check_patterns("posters", options.posters, "@", "*@example.org")
    if not isinstance(options.attachments, str):
        _check_patterns("attachments", options.attachments, "/", "image/*")
    if not 0 <= options.max_size < _LARGEST:
        raise ListError("max_size is a number of octets, 0 for the server's limit")
    if not (0 < options.bounce_limit <= _MOST and 0 < options.bounce_days <= _MOST):  # true of no NaN
        raise ListError(f"bounce_limit and bounce_days are more than 0, and at most {_MOST}")
    url = options.unsubscribe_url
    if url and not (url.startswith("https://") and "{token}" in url and url.isascii() and url.isprintable()):
        raise ListError("unsubscribe_url is an https address with {token} in it")  # rfc8058#3.1
    if len(url) > _LONGEST_URL:
        raise ListError(f"unsubscribe_url has at most {_LONGEST_URL} characters")
    if url and (" " in url or "<" in url or ">" in url):
        raise ListError("unsubscribe_url has no blanks and no angle brackets in it")
    for field in ("description", "subject_prefix"):
        if not getattr(options, field).isprintable():
            raise ListError(f"{field} is one line of text")
        if len(getattr(options, field)) > _LONGEST_TEXT:
            raise ListError(f"{field} has at most {_LONGEST_TEXT} characters")


def _check_person(field: str, address: str) -> None:
    try:
        checked_path(address)
    except ListError as error:
        raise ListError(f"{field}: {error}") from error


def _check_patterns(field: str, patterns: tuple[str, ...], sign: str, example: str) -> None:
    for pattern in patterns:
        if not pattern.isprintable() or (sign not in pattern and "*" not in pattern):
            raise ListError(f'{field}: "{pattern[:80]}" fits nothing; {example}')


def _check_word(field: str, value: str, allowed: tuple[str, ...], more: str = "") -> None:
    if value not in allowed:
        raise ListError(f'{field.rstrip("_")} is {", ".join(allowed)}{more}, not "{value}"')
