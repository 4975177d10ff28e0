"""The letters a list writes itself: how they look, and what stands in each.

Strategy: a letter is a value, made by one function for each occasion; `deposit` makes it a message with the header that
keeps programs from answering it (RFC 3834), and with a return path that leads back to the list, where a bounce of it
ends (L2). Whatever somebody else chose becomes one safe line of text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gatepost.content.headers import Section, read_section
from gatepost.content.plain_text import first_text
from gatepost.content.received import date
from gatepost.content.transfer import encode
from gatepost.content.values import read_value, safe, unfold, write_field
from gatepost.lists.addressing import Purpose, address_for
from gatepost.lists.context import Context
from gatepost.model import Blob, Body, Bytes, Envelope, Path, Recipient
from gatepost.store import Deposit
from gatepost.store.lists import MailingList, Member

_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>", re.ASCII)
_LINE = 72
_FIRST_LINES = 20
_FIRST_OCTETS = 4096
_HEADER_OCTETS = 16 * 1024
MOST_NAMED = 1000
"""Members in one answer."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail. `answers` is the Message-ID of the mail it answers, brackets and all, "" where that has none; None: it
    answers no mail. `attached` is a message's header section, `back` the return path's purpose and extension.
    """

    to: tuple[Path, ...]
    subject: str
    text: str
    by: Purpose = Purpose.REQUEST
    reply_to: Path | None = None
    answers: str | None = None
    attached: bytes = b""
    back: tuple[Purpose, str] = (Purpose.BOUNCES, "")


def deposit(context: Context, mailing_list: MailingList, letter: Letter) -> Deposit:
    """The letter as a message to commit."""
    ticket, now = context.new_ticket(), context.now()
    content = render(
        letter, mailing_list, message_id=f"{ticket}@{context.hostname}", boundary=f"gatepost-{ticket}", now=now
    )
    envelope = Envelope(
        address_for(mailing_list.address, *letter.back),
        tuple(Recipient(path) for path in letter.to),
        Body.SEVEN_BIT if content.isascii() else Body.EIGHT_BIT_MIME,
        smtputf8=any(path.needs_smtputf8 for path in letter.to),
    )
    return Deposit(ticket, envelope, Bytes(content), now, facts={"list-letter": mailing_list.name})


def render(letter: Letter, mailing_list: MailingList, *, message_id: str, boundary: str, now: float) -> bytes:
    """The letter's octets, CRLF line ends; `message_id` without brackets, `now` Unix time in seconds."""
    utf8 = any(path.needs_smtputf8 for path in letter.to)
    to = letter.to[0].address if len(letter.to) == 1 else address_for(mailing_list.address, Purpose.OWNER).address
    fields = [
        ("From", f'"{mailing_list.name} list" <{address_for(mailing_list.address, letter.by).address}>'),
        ("To", to),
        ("Subject", letter.subject),
        ("Date", date(now)),
        ("Message-ID", f"<{message_id}>"),
        ("Auto-Submitted", "auto-generated" if letter.answers is None else "auto-replied"),  # rfc3834#5
        ("Precedence", "bulk"),
        ("X-Auto-Response-Suppress", "All"),
        ("List-Help", f"<mailto:{address_for(mailing_list.address, Purpose.REQUEST).address}?subject=help>"),
    ]
    if letter.reply_to is not None:
        fields.append(("Reply-To", letter.reply_to.address))
    if letter.answers:
        fields += [("In-Reply-To", letter.answers), ("References", letter.answers)]
    fields.append(("MIME-Version", "1.0"))
    text, encoding = _text(letter.text)
    head = b"".join(write_field(name, value, utf8=utf8) for name, value in fields)
    if not letter.attached:
        return head + _part_head("text/plain; charset=utf-8", encoding) + text
    returned, how = encode(letter.attached, "7bit" if letter.attached.isascii() else "quoted-printable", text=True)
    while f"--{boundary}".encode() in text or f"--{boundary}".encode() in returned:
        boundary += "x"
    line = f"--{boundary}\r\n".encode()
    return b"".join([
        head,
        f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'.encode(),
        line, _part_head("text/plain; charset=utf-8", encoding), text, b"\r\n",
        line, _part_head("text/rfc822-headers", how), returned, f"\r\n--{boundary}--\r\n".encode(),
    ])  # fmt: skip


def message_id_of(section: Section) -> str:
    """A message's Message-ID with its brackets, where it has one that can be cited; else ""."""
    values = section.raw_values("message-id")
    text = unfold(values[0]).strip() if values else ""
    return text if _MESSAGE_ID.fullmatch(text) else ""


def confirmation(mailing_list: MailingList, to: Path, wish: str, token: str, until: float) -> Letter:
    """The question whether an address really wants something; `wish` goes on after "that …"."""
    back = address_for(mailing_list.address, Purpose.CONFIRM, token)
    text = _paragraphs(
        f"Somebody, most likely you, has asked that {wish}.",
        "To confirm it, reply to this mail; nothing needs to be written or changed. The reply goes to",
        f"    {back.address}",
        f"If it wasn't you, do nothing: without a reply nothing happens. The question is over on {date(until)}.",
        _signature(mailing_list),
    )
    return Letter((to,), f"confirm {token}", text, reply_to=back)


def for_approval(mailing_list: MailingList, owners: Sequence[Path], who: str, token: str, until: float) -> Letter:
    """The question to the owners whether somebody may subscribe."""
    back = address_for(mailing_list.address, Purpose.CONFIRM, token)
    text = _paragraphs(
        f"{safe(who)} asks to be subscribed to {mailing_list.address}, and has confirmed the address.",
        "To let that happen, reply to this mail; the reply goes to",
        f"    {back.address}",
        f"To refuse it, do nothing: the request is over on {date(until)}.",
    )
    return Letter(tuple(owners), f"{mailing_list.name}: {safe(who)} asks to subscribe", text, Purpose.OWNER, back)


def welcome(mailing_list: MailingList, member: Member) -> Letter:
    """What a new member is told."""
    text = _paragraphs(
        f"{safe(member.address)} is subscribed to {mailing_list.address}{_described(mailing_list)}.",
        _HOW_TO_POST[mailing_list.options.post].format(address=mailing_list.address),
        f"To leave, write to {address_for(mailing_list.address, Purpose.UNSUBSCRIBE).address}. A mail with the subject "
        f'"help" to {address_for(mailing_list.address, Purpose.REQUEST).address} tells what else there is.',
        _signature(mailing_list),
    )
    return Letter((Path.parse(member.address),), f"Welcome to {mailing_list.name}", text)


def goodbye(mailing_list: MailingList, to: Path) -> Letter:
    """What somebody is told who has left."""
    text = _paragraphs(
        f"{to.address} is no longer subscribed to {mailing_list.address}.",
        f"To come back, write to {address_for(mailing_list.address, Purpose.SUBSCRIBE).address}.",
        _signature(mailing_list),
    )
    return Letter((to,), f"You have left {mailing_list.name}", text)


def help_text(mailing_list: MailingList, to: Path, *, opening: str = "") -> Letter:
    """What can be asked of a list by mail; `opening` is said first."""
    request = address_for(mailing_list.address, Purpose.REQUEST).address
    text = _paragraphs(
        opening,
        f"This is the list {mailing_list.address}{_described(mailing_list)}.",
        f"What it understands, as the subject or the first line of a mail to {request}:",
        "\n".join(f"    {command:<24}{what}" for command, what in _COMMANDS),
        f"Posts go to {mailing_list.address}, mail to a person who looks after it to "
        f"{address_for(mailing_list.address, Purpose.OWNER).address}.",
    )
    return Letter((to,), f"Help for {mailing_list.name}", text)


def told(mailing_list: MailingList, to: Path, subject: str, *paragraphs: str) -> Letter:
    """A short answer."""
    return Letter((to,), f"{mailing_list.name}: {subject}", _paragraphs(*paragraphs, _signature(mailing_list)))


def last_of_an_hour(letter: Letter) -> Letter:
    """The same letter, which says that the next request hears nothing."""
    body, dashes, signature = letter.text.partition("\n\n-- \n")
    hint = _paragraphs("This was the last answer for now: for an hour nothing more is answered.").rstrip("\n")
    text = f"{body}\n\n{hint}{dashes}{signature}" if dashes else f"{body}\n{hint}\n"
    return replace(letter, text=text)


def who(mailing_list: MailingList, to: Path, members: Sequence[Member], in_all: int) -> Letter:
    """The members, for an owner."""
    named = [f"    {safe(member.address)}{_state(member)}" for member in members[:MOST_NAMED]]
    if in_all > len(named):
        named.append(f"    and {in_all - len(named)} more")
    return told(mailing_list, to, "members", f"{in_all} members of {mailing_list.address}:", "\n".join(named))


def moderation(
    mailing_list: MailingList, post: Blob, *, ticket: str, author: str, reason: str
) -> tuple[str, str, bytes]:
    """Of a post that waits: subject, opening and header section of the notice."""
    section = read_section(post)
    subjects = section.raw_values("subject")
    lines = first_text(post, _FIRST_OCTETS).split("\n")
    shown = "\n".join("> " + safe(line)[:200] for line in lines[:_FIRST_LINES])
    opening = _paragraphs(
        f"A post to {mailing_list.address} waits for a moderator: {safe(reason)}.",
        "\n".join([
            f"    from:     {safe(author)}",
            f"    subject:  {read_value(subjects[0])[:200] if subjects else ''}",
            f"    size:     {post.size} octets",
            f"    ticket:   {ticket}",
        ]),
        shown if shown.strip("> \n") else "",
    )  # fmt: skip
    raw = section.raw
    head = raw if len(raw) <= _HEADER_OCTETS else raw[: raw.rfind(b"\n", 0, _HEADER_OCTETS) + 1]
    return f"{mailing_list.name}: a post by {safe(author)} waits", opening, head


def probe(mailing_list: MailingList, member: Member, token: str, until: float) -> Letter:
    """What finds out whether an address that has bounced takes mail again: nothing has to be done with it."""
    text = _paragraphs(
        f"Several posts of {mailing_list.address} to {safe(member.address)} came back, so no more of them are sent for "
        "now. This mail is to find out whether the address takes mail again.",
        "Nothing needs to be done: if this mail doesn't come back, posts are sent again after "
        f"{date(until)}. To get them sooner, write to "
        f'{address_for(mailing_list.address, Purpose.REQUEST).address} with the subject "set mail".',
        _signature(mailing_list),
    )
    to = (Path.parse(member.address),)
    return Letter(to, f"{mailing_list.name}: is this address working?", text, back=(Purpose.PROBE, token))


def removed(mailing_list: MailingList, to: Sequence[Path], member: Member, said: str) -> Letter:
    """What the owners are told of a member who was taken off because mail bounces."""
    text = _paragraphs(
        f"{safe(member.address)} was taken off {mailing_list.address}: posts came back, and so did a mail that asked "
        "whether the address works.",
        f"    {safe(said)[:500]}" if said else "",
        f"To undo it: gatepost list subscribe {mailing_list.name} {safe(member.address)}",
    )
    return Letter(tuple(to), f"{mailing_list.name}: {safe(member.address)} was taken off", text, Purpose.OWNER)


_HOW_TO_POST = {
    "open": "Anyone may post, by mail to {address}.",
    "members": "Members post by mail to {address}, from the address that is subscribed.",
    "moderated": "Posts go to {address}; a moderator looks at each before everybody gets it.",
    "announce": "Few may post; everybody else reads.",
}
_COMMANDS = (
    ("help", "this text"),
    ("subscribe", "get the posts"),
    ("unsubscribe", "leave the list"),
    ("set nomail", "stay a member and get no posts"),
    ("set mail", "get posts again"),
    ("set vacation 2030-12-24", "get no posts until that day"),
    ("set vacation off", "get posts again"),
    ("who", "the members (owners only)"),
    ("end", "what comes after it isn't read"),
)


def _state(member: Member) -> str:
    if member.stopped_at is not None:
        return "  (stopped: mail to this address has bounced)"
    return "" if member.mode == "mail" else f"  ({member.mode})"


def _described(mailing_list: MailingList) -> str:
    return f" ({safe(mailing_list.options.description)})" if mailing_list.options.description else ""


def _signature(mailing_list: MailingList) -> str:
    return f"-- \n{mailing_list.address}"


def _paragraphs(*paragraphs: str) -> str:
    return "\n\n".join(_wrapped(paragraph) for paragraph in paragraphs if paragraph) + "\n"


def _wrapped(paragraph: str) -> str:
    """Filled lines; a paragraph with line ends or an indent is left as it is."""
    if "\n" in paragraph or paragraph.startswith(" "):
        return paragraph
    lines, line = [], ""
    for word in paragraph.split(" "):
        if line and len(line) + 1 + len(word) > _LINE:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def _text(text: str) -> tuple[bytes, str]:
    octets = text.encode("utf-8", "replace")
    return encode(octets, "7bit" if octets.isascii() else "quoted-printable", text=True)


def _part_head(kind: str, encoding: str) -> bytes:
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii")
