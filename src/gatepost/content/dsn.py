"""Delivery status notifications (RFC 3464, RFC 6522, RFC 6533) and notices to the postmaster: mail the house writes.

Strategy: a text for a person comes first, then the fields for machines, then what is returned of the message, each an
octet string of its own between boundaries that none of them contains (stdlib's generator would parse and rewrite
returned content, which is whatever a sender wrote). Whatever a remote server or an author said is made one safe line
before it gets in (I4); returned content is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gatepost.content.headers import read_section
from gatepost.content.received import date
from gatepost.content.transfer import encode, fits
from gatepost.content.values import read_value, safe, write_field
from gatepost.model import Blob, Path, Recipient, Reply, xtext

_MAX_TEXT = 500  # characters of a remote server's text
_LINE = 72


class Action(Enum):
    """What became of a recipient (rfc3464#2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One recipient's fate. `status` is an enhanced status (RFC 3463); `reply` what the remote server `remote` said.

    `reason` is our own word where no server spoke. Times are Unix seconds; `retry_until` only while delayed.
    """

    recipient: Recipient
    action: Action
    status: str
    reply: Reply | None = None
    remote: str = ""
    reason: str = ""
    last_attempt: float | None = None
    retry_until: float | None = None


@dataclass(frozen=True, slots=True)
class About:
    """The message that is reported on, and who reports: `now` and `arrival` in Unix seconds, `offset_s` east.

    `boundary` and `message_id` (without brackets) are unique texts handed in. `envid` as the client gave it, decoded.
    """

    hostname: str
    ticket: str
    sender: Path
    content: Blob
    arrival: float
    now: float
    boundary: str
    message_id: str
    offset_s: int = 0
    smtputf8: bool = False
    envid: str = ""


def render_report(about: About, outcomes: Sequence[Outcome], *, return_full: bool = False, limit: int = 65536) -> bytes:
    """A notification to the message's sender, CRLF line ends, to be sent with the null sender (rfc3464#2).

    All outcomes are one kind: failure, delay or success; one that comes twice is told once. Returned are the header
    section, or with `return_full` the whole message; of either at most `limit` octets. Raises ValueError for a message
    that has the null sender.
    """
    if not about.sender:
        raise ValueError("the null sender is never sent a report")  # rfc5321#4.5.5
    outcomes = list({(o.recipient, o.recipient.parameters.get("ORCPT")): o for o in outcomes}.values())
    utf8 = about.smtputf8 or about.sender.needs_smtputf8
    subject = _SUBJECTS[outcomes[0].action] if outcomes else _SUBJECTS[Action.FAILED]
    parts = [
        _text_part(_explain(about, outcomes), utf8),
        _status_part(about, outcomes, utf8),
        _returned_part(about.content, utf8, return_full, limit),
    ]
    return _frame(about, about.sender.address, subject, "report; report-type=delivery-status", parts, utf8)


def render_postmaster_notice(
    about: About, postmaster: str, outcomes: Sequence[Outcome], *, limit: int = 65536
) -> bytes:
    """A notice to our own postmaster: the message is held, because telling its sender might be backscatter."""
    utf8 = about.smtputf8 or about.sender.needs_smtputf8
    parts = [_text_part(_explain_held(about, outcomes), utf8), _returned_part(about.content, utf8, False, limit)]
    return _frame(about, postmaster, f"Held: undeliverable message {about.ticket}", "mixed", parts, utf8)


_SUBJECTS = {
    Action.FAILED: "Undeliverable: your message could not be delivered",
    Action.DELAYED: "Delayed: your message has not been delivered yet",
    Action.DELIVERED: "Delivered: your message has arrived",
    Action.RELAYED: "Relayed: your message was passed on",
    Action.EXPANDED: "Delivered: your message was sent on to several recipients",
}
_OPENINGS = {
    Action.FAILED: "Your message could not be delivered to the recipients below, and no further attempt will be made.",
    Action.DELAYED: "Your message has not been delivered to the recipients below yet. Nothing needs to be done: "
    "further attempts will be made.",
    Action.DELIVERED: "Your message was delivered to the recipients below.",
    Action.RELAYED: "Your message was passed on for the recipients below, to servers that send no notice of delivery.",
    Action.EXPANDED: "The addresses below stand for several recipients, and your message was sent on to them.",
}
_ADVICE = (
    (("5.1.1", "5.1.10", "5.1.2", "5.1.3"), "Check the address for mistakes and send the message again."),
    (("5.2.2", "4.2.2"), "The mailbox is full. Reach the recipient another way, or try again later."),
    (("5.2.3", "5.3.4"), "The message is too large for the recipient. Send a smaller one."),
    (("5.4.6",), "The message went round in a loop. Tell the recipient's postmaster."),
    (("5.7.",), "The recipient's server did not want the message. Ask the recipient or its postmaster for the reason."),
    (
        ("4.",),
        "The recipient's server could not be reached in time. Try again later, or reach the recipient another way.",
    ),
)


def _frame(about: About, to: str, subject: str, kind: str, parts: Sequence[bytes], utf8: bool) -> bytes:
    boundary = about.boundary
    while any(b"--" + boundary.encode("ascii") in part for part in parts):
        boundary += "x"
    fields = [
        ("From", f"Mail Delivery System <MAILER-DAEMON@{about.hostname}>"),
        ("To", to),
        ("Subject", subject),
        ("Date", date(about.now, about.offset_s)),
        ("Message-ID", f"<{about.message_id}>"),
        ("Auto-Submitted", "auto-replied"),  # rfc3834#5
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/{kind}; boundary="{boundary}"'),
    ]
    if not all(part.isascii() for part in parts):
        fields.append(("Content-Transfer-Encoding", "8bit"))  # rfc2045#6.4
    head = b"".join(write_field(name, value, utf8=utf8) for name, value in fields)
    delimiter = f"\r\n--{boundary}".encode("ascii")
    return b"".join([head, *(delimiter + b"\r\n" + part for part in parts), delimiter, b"--\r\n"])


def _explain(about: About, outcomes: Sequence[Outcome]) -> str:
    action = outcomes[0].action if outcomes else Action.FAILED
    lines = [f"This is the mail server {safe(about.hostname)}.", "", *_wrap(_OPENINGS[action])]
    for outcome in outcomes:
        lines += ["", *_about_recipient(about, outcome)]
        if advice := _advice(outcome):
            lines += _wrap(advice, "  ")
    return "\n".join([*lines, *_about_message(about)])


def _explain_held(about: About, outcomes: Sequence[Outcome]) -> str:
    opening = (
        "A message could not be delivered. Its sender wasn't told, because the address may be forged; the message is "
        f'held instead. "gatepost queue show {about.ticket}" shows it, "gatepost queue release {about.ticket}" tries '
        f'again, "gatepost queue delete {about.ticket}" removes it.'
    )
    lines = [f"This is the mail server {safe(about.hostname)}.", "", *_wrap(opening), ""]
    lines += [f"  sender: {safe(about.sender.address) or '(none)'}"]
    for outcome in outcomes:
        lines += ["", *_about_recipient(about, outcome)]
    return "\n".join([*lines, *_about_message(about)])


def _about_recipient(about: About, outcome: Outcome) -> list[str]:
    lines = [f"  {safe(outcome.recipient.address)}"]
    if outcome.reply is not None and outcome.action is Action.RELAYED:
        said = f"passed on to {_server(outcome)}, which sends no notice; it said: {_said(outcome.reply)}"
    elif outcome.reply is not None:
        said = f"{_server(outcome)} said: {_said(outcome.reply)}"
    elif outcome.action is Action.DELIVERED and not outcome.reason:
        said = "it is in the recipient's mailbox"
    else:
        said = f"reason: {_short(outcome.reason) or 'none given'} ({outcome.status})"
    lines += _wrap(said, "    ")
    if outcome.retry_until is not None:
        lines.append(f"    attempts go on until {date(outcome.retry_until, about.offset_s)}")
    return lines


def _about_message(about: About) -> list[str]:
    section = read_section(about.content)
    values = section.raw_values("subject")
    subject = _short(read_value(values[0])) if values else ""
    return [
        "",
        f"Subject: {subject}",
        f"Arrived: {date(about.arrival, about.offset_s)}",
        f"Ticket: {about.ticket}",
        "",
    ]


def _advice(outcome: Outcome) -> str:
    if outcome.action is not Action.FAILED:
        return ""
    return next((text for statuses, text in _ADVICE if outcome.status.startswith(statuses)), "")


def _status_part(about: About, outcomes: Sequence[Outcome], utf8: bool) -> bytes:
    """rfc3464#2.1: a block about the message, then one per recipient."""
    lines = [f"Reporting-MTA: dns; {safe(about.hostname)}"]
    if envid := _short(_ascii(safe(about.envid))):
        lines.append(f"Original-Envelope-Id: {envid}")
    lines.append(f"Arrival-Date: {date(about.arrival, about.offset_s)}")
    for outcome in outcomes:
        lines.append("")
        if original := xtext.original_recipient(outcome.recipient.parameters.get("ORCPT", "")):
            kind, address = original  # decoded: rfc3464#2.3.1
            written = _in_ascii(safe(address)) if kind == "utf-8" and not utf8 else safe(address)
            lines.append(f"Original-Recipient: {kind}; {_short(written)}")
        lines += [f"Final-Recipient: {_typed(outcome.recipient.address, utf8)}", f"Action: {outcome.action.value}"]
        lines.append(f"Status: {outcome.status}")
        if remote := _short(_ascii(safe(outcome.remote))):
            lines.append(f"Remote-MTA: dns; {remote}")
        if outcome.reply is not None:
            lines.append(f"Diagnostic-Code: smtp; {_short(_ascii(_said(outcome.reply)))}")
        if outcome.last_attempt is not None:
            lines.append(f"Last-Attempt-Date: {date(outcome.last_attempt, about.offset_s)}")
        if outcome.retry_until is not None:
            lines.append(f"Will-Retry-Until: {date(outcome.retry_until, about.offset_s)}")
    octets = "".join(line + "\r\n" for line in lines).encode("utf-8")
    return _part("message/global-delivery-status" if utf8 else "message/delivery-status", octets)


def _returned_part(content: Blob, utf8: bool, full: bool, limit: int) -> bytes:
    """The message, where it can stand as it is (rfc2046#5.2.1 lets nobody encode it), or its header section."""
    head = read_section(content).raw
    if full and content.size <= limit and fits(whole := content.read(), ascii_only=False):
        return _part("message/global" if utf8 else "message/rfc822", whole)
    if len(head) > limit:
        head = head[: head.rfind(b"\n", 0, limit) + 1]
    return _part("message/global-headers", head) if utf8 else _part("text/rfc822-headers", head, "quoted-printable")


def _text_part(text: str, utf8: bool) -> bytes:
    return _part("text/plain; charset=utf-8", text.encode("utf-8"), "8bit" if utf8 else "quoted-printable")


def _part(kind: str, octets: bytes, encoding: str = "8bit") -> bytes:
    """A part with its header; `encoding` where the octets aren't ASCII with short enough lines."""
    octets, encoding = encode(octets, "7bit" if octets.isascii() else encoding, text=True)
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii") + octets


def _typed(address: str, utf8: bool) -> str:
    """rfc6533#3: an address with its type; where UTF-8 can't travel, its characters are written \\x{…}."""
    address = safe(address)
    if address.isascii():
        return f"rfc822; {address}"
    return f"utf-8; {address if utf8 else _in_ascii(address)}"


def _in_ascii(address: str) -> str:
    """rfc6533#3 utf-8-addr-xtext, where four characters of ASCII are written so too."""
    return "".join(c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):02X}}}" for c in address)


def _ascii(text: str) -> str:
    return text if text.isascii() else "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in text)


def _server(outcome: Outcome) -> str:
    return _short(outcome.remote) or "the next server"


def _said(reply: Reply) -> str:
    return _short(f"{reply.code} {reply.status} {' '.join(reply.lines)}".replace("  ", " "))


def _short(text: str) -> str:
    text = safe(text).replace("\t", " ").strip(" ")
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _wrap(text: str, indent: str = "") -> list[str]:
    """Lines of at most 72 characters where blanks allow it."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and len(indent) + len(line) + 1 + len(word) > _LINE:
            lines.append(indent + line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, indent + line]
