"""The header section of a list's copies: what the list says of itself, where replies go, who stands in From. Pure.

Strategy: the section of the stored message is parsed once for all copies of an attempt, and rendered once; a copy adds
the field that names its member. The body is never looked at. Signatures that cover a field which is changed here go,
since they no longer hold (rfc6377#5.7); all others stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from gatepost.content.addresses import Mailbox, parse_list
from gatepost.content.fields import Fields
from gatepost.content.headers import Section
from gatepost.content.values import GOOD_LINE, decode_words, phrase, unfold, write_field
from gatepost.lists.addressing import Purpose, address_for
from gatepost.model import AddHeader, AddressError, ChangeHeader, DeleteHeader, HeaderEdit, Path
from gatepost.model.path import parse_domain
from gatepost.store.lists import MailingList

_REMOVED = frozenset([
    b"return-path", b"precedence", b"errors-to",
    b"return-receipt-to", b"disposition-notification-to", b"x-confirm-reading-to", b"x-pmrqc",
])  # fmt: skip
"""What the list says itself, and what would show an author who reads it."""
_ADDED_LATER = frozenset([b"list-unsubscribe", b"list-unsubscribe-post"])
_LONGEST_NAME = 100  # characters of an author's name in a rewritten From
_SIGNED = re.compile(r"(?:^|;)\s*h\s*=([^;]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Block:
    """The header section of copies: `fields` is what all have in common, `blank` the empty line at its end."""

    fields: bytes
    blank: bytes
    mailing_list: MailingList

    def of(self, token: str | None) -> bytes:
        """A copy's section; with a member's token, and where the list has an address for it, one-click (RFC 8058)."""
        return self.fields + unsubscribe(self.mailing_list, token) + self.blank


def render(
    section: Section,
    mailing_list: MailingList,
    *,
    is_rewritten: bool = False,
    via: Sequence[str] = (),
    utf8: bool = False,
) -> Block:
    """The section of the copies of a post. `is_rewritten`: From names the list; `via` are the addresses of the lists
    it came through before this one; `utf8`: it travels with SMTPUTF8.
    """
    fields = Fields(section, utf8=utf8)
    # rfc2369#4: a list that is on another one replaces what that has said
    _keep(fields, lambda place: fields.names[place] not in _REMOVED and not fields.names[place].startswith(b"list-"))
    _prefix(fields, mailing_list.options.subject_prefix)
    for edit in (*_people(section, mailing_list, is_rewritten=is_rewritten), *_about(section, mailing_list, via)):
        fields.apply(edit)
    _drop_broken(fields, section)
    blank = section.blank if section.blank.endswith(b"\n") else b"\r\n"
    return Block(b"".join(fields.octets), blank, mailing_list)


def list_id(mailing_list: MailingList) -> str:
    """The list's name for ever, within its brackets (rfc2919#2)."""
    return f"{mailing_list.name}.{Path.parse(mailing_list.address).domain}"


def unsubscribe(mailing_list: MailingList, token: str | None) -> bytes:
    """How to leave the list, by mail and, with a token, by one request."""
    way = f"<mailto:{_uri(mailing_list, Purpose.UNSUBSCRIBE)}>"
    url = mailing_list.options.unsubscribe_url
    if not url or token is None:
        return write_field("List-Unsubscribe", way)
    # rfc8058#3.1: an https address, and the field that says it can be done without asking back
    field = write_field("List-Unsubscribe", f"<{url.replace('{token}', quote(token, safe=''))}>, {way}")
    return field + write_field("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")


def author(section: Section) -> Mailbox | None:
    """The first mailbox of From, its name decoded; None if there is none."""
    values = section.raw_values("from")
    found = parse_list(unfold(values[0])).mailboxes if values else ()  # as written: what is encoded is no address
    return Mailbox(decode_words(found[0].name), found[0].address) if found else None


def author_domain(section: Section) -> str:
    """The domain of From's first address as A-labels; "" if there is none."""
    one = author(section)
    try:
        return "" if one is None else parse_domain(one.address.rpartition("@")[2])
    except AddressError:
        return ""


def _uri(mailing_list: MailingList, purpose: Purpose = Purpose.POST) -> str:
    """An address of the list as a mailto URI has it (rfc6068#2)."""
    return quote(address_for(mailing_list.address, purpose).address, safe="@!$'*+-._~")


def _about(section: Section, mailing_list: MailingList, via: Sequence[str]) -> Iterator[HeaderEdit]:
    """What the list says of itself (RFC 2369, RFC 2919), but for how to leave it."""
    options = mailing_list.options
    name = f"{phrase(options.description)} " if options.description else ""
    yield AddHeader("List-Id", f"{name}<{list_id(mailing_list)}>")
    is_open = options.post != "announce"
    yield AddHeader("List-Post", f"<mailto:{_uri(mailing_list)}>" if is_open else "NO")  # rfc2369#3.4
    yield AddHeader("List-Help", f"<mailto:{_uri(mailing_list, Purpose.REQUEST)}?subject=help>")
    if options.subscribe != "closed":
        yield AddHeader("List-Subscribe", f"<mailto:{_uri(mailing_list, Purpose.SUBSCRIBE)}>")
    yield AddHeader("List-Owner", f"<mailto:{_uri(mailing_list, Purpose.OWNER)}>")
    yield AddHeader("Precedence", "list")  # rfc3834#2 has it kept from most who answer by themselves
    known = {unfold(raw).lower() for raw in section.raw_values("x-loop")}  # of other lists on its way: they stay
    for address in dict.fromkeys((*via, mailing_list.address)):
        if address.lower() not in known:
            yield AddHeader("X-Loop", address)


def _people(section: Section, mailing_list: MailingList, *, is_rewritten: bool) -> Iterator[HeaderEdit]:
    """Who stands in From, and where replies go."""
    policy = mailing_list.options.reply_to
    written = section.raw_values("from")
    if is_rewritten and written:
        one = author(section)
        shown = "" if one is None else (one.name or one.address.rpartition("@")[0])[:_LONGEST_NAME]
        title = mailing_list.options.description or mailing_list.name
        name = phrase(f"{shown} via {title}" if shown else title)
        yield DeleteHeader("From")  # there may be several, and all of them count for somebody
        yield DeleteHeader("Sender")
        yield AddHeader("From", f"{name} <{mailing_list.address}>")
        before = unfold(written[0])
        if one is not None and not section.count("author"):
            yield AddHeader("Author", before)  # rfc9057#3
        if one is not None and policy == "sender" and not section.count("reply-to"):
            yield AddHeader("Reply-To", before)
    if policy != "sender":
        yield DeleteHeader("Reply-To")
        yield AddHeader("Reply-To", mailing_list.address if policy == "list" else policy)


def _prefix(fields: Fields, prefix: str) -> None:
    """The prefix before the subject, unless it is in there already. What was encoded stays as it was."""
    if not prefix:
        return
    place = fields.place("Subject")
    if place is None:
        fields.apply(AddHeader("Subject", prefix))
        return
    text = fields.value(place)
    if prefix.strip().lower() in text.lower():
        return
    raw = fields.raw(place).lstrip(b" \t\r\n")
    if not prefix.isascii() or not raw:
        fields.apply(ChangeHeader("Subject", f"{prefix.strip()} {text}"))
        return
    head = f"{fields.spelling(place)}: {prefix.strip()}".encode("ascii")
    is_short = len(head) + 1 + len(raw.partition(b"\r\n")[0]) <= GOOD_LINE
    fields.octets[place] = head + (b" " if is_short else b"\r\n ") + raw + b"\r\n"


def _drop_broken(fields: Fields, section: Section) -> None:
    """Remove the signatures over what is another now, or has one more of it (rfc6376#5.4.2)."""
    if b"dkim-signature" not in fields.names:
        return
    before, now = _by_name(section.names, section.fields), _by_name(fields.names, fields.octets)
    changed = _ADDED_LATER | {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    names = {name.decode("ascii") for name in changed if name}

    def holds(place: int) -> bool:
        if fields.names[place] != b"dkim-signature":
            return True
        found = _SIGNED.search(unfold(fields.raw(place)))
        return found is not None and names.isdisjoint(name.strip().lower() for name in found[1].split(":"))

    _keep(fields, holds)


def _keep(fields: Fields, is_kept: Callable[[int], bool]) -> None:
    places = [place for place in range(len(fields.names)) if is_kept(place)]
    if len(places) < len(fields.names):
        fields.names, fields.octets = [fields.names[p] for p in places], [fields.octets[p] for p in places]


def _by_name(names: Iterable[bytes], octets: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, field in zip(names, octets, strict=True):
        found.setdefault(name, []).append(field)
    return found
