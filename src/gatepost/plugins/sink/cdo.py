"""CDO's IMessage for OnArrival sinks in Python: the message as Fields, texts and header properties. Contract: CDO.

What is set on the message counts once `DataSource.Save()` was called, what is set in Fields after `Fields.Update()`.
Header fields are changed one by one, all others staying octet for octet; a new text makes the body anew.
"""

from __future__ import annotations

from email.message import EmailMessage

from gatepost.content.view import View
from gatepost.plugins.sink.cdo_body import Attachments, parse, text_of, with_text
from gatepost.plugins.sink.cdo_fields import ENVELOPE, HEADER, HTTPMAIL, Field, Fields
from gatepost.plugins.sink.constants import CDO_RUN_NEXT_SINK, CDO_SKIP_REMAINING_SINKS, EXPE_S_CONSUMED, S_OK
from gatepost.plugins.sink.mailmsg import MailMsgProperties
from gatepost.plugins.sink.mailmsg_bag import BadArgument

__all__ = [
    "ENVELOPE",
    "HEADER",
    "HTTPMAIL",
    "CdoMessage",
    "EventStatus",
    "Field",
    "Fields",
    "Stream",
    "outcome",
]


class EventStatus:
    """The argument by which OnArrival says whether later sinks are asked: CDO_RUN_NEXT_SINK, or the other."""

    def __init__(self) -> None:
        self._value = CDO_RUN_NEXT_SINK

    @property
    def value(self) -> int:
        """What was said last."""
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        self._value = value

    Value = value


def outcome(returned: object, status: EventStatus) -> int:
    """The HRESULT that OnArrival comes to: its returned status, or the one set in its argument. BadArgument."""
    said = status.value if returned is None else returned
    match said:
        case bool():
            pass
        case int(number) if number == CDO_RUN_NEXT_SINK:
            return S_OK
        case int(number) if number == CDO_SKIP_REMAINING_SINKS:
            return EXPE_S_CONSUMED
        case _:
            pass
    raise BadArgument(f"OnArrival's EventStatus is 0 (run next sink) or 1 (skip remaining sinks), not {said!r}")


class Stream:
    """The whole message as octets, to be read."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.position = 0

    def read(self, count: int = -1) -> bytes:
        """So many octets from here on; all that are left below 0."""
        end = len(self._octets) if count < 0 else self.position + count
        found = self._octets[self.position : end]
        self.position += len(found)
        return found

    def read_text(self, count: int = -1) -> str:
        """The same as text."""
        return self.read(count).decode("utf-8", "surrogateescape")

    @property
    def size(self) -> int:
        """Octets in all."""
        return len(self._octets)

    @property
    def eos(self) -> bool:
        """Whether everything was read."""
        return self.position >= len(self._octets)

    def close(self) -> None:
        """It can still be read."""

    Read, ReadText, Close, Size, EOS = read, read_text, close, size, eos


class DataSource:
    """Where a message's changes are saved to."""

    def __init__(self, message: CdoMessage) -> None:
        self._message = message

    def save(self) -> None:
        """What was set on the message is in it now. OSError."""
        self._message._save()

    Save = save


def _header(name: str) -> property:
    def read(message: CdoMessage) -> str:
        return message.header(name) or ""

    def write(message: CdoMessage, value: str) -> None:
        message.set_header(name, value)

    return property(read, write, doc=f"The {name} field as text, decoded; empty where there is none.")


def _body(kind: str, words: str) -> property:
    def read(message: CdoMessage) -> str:
        return message.text(kind)

    def write(message: CdoMessage, value: str) -> None:
        message.set_text(kind, value)

    return property(read, write, doc=f"The body as {words}; empty where there is none.")


class CdoMessage:
    """CDO's IMessage, as OnArrival is given it. Each property has its name in Python, and CDO's."""

    def __init__(self, message: MailMsgProperties) -> None:
        self.mailmsg = message
        """The same message as IMailMsgProperties."""
        self._seal = seal = message._seal
        self._view: View | None = None
        self._is_changed = False
        self._parsed: EmailMessage | None = None
        self.fields = self.Fields = Fields(message, self, seal)
        """Every field, by schema and name."""
        self.envelope_fields = self.EnvelopeFields = Fields(message, self, seal)
        """The same; scripts take the envelope's fields from here."""
        self.data_source = self.DataSource = DataSource(self)

    subject = Subject = _header("Subject")
    sender = Sender = _header("Sender")
    from_ = From = _header("From")
    to = To = _header("To")
    cc = CC = _header("Cc")
    bcc = BCC = _header("Bcc")
    reply_to = ReplyTo = _header("Reply-To")
    text_body = TextBody = _body("plain", "plain text")
    html_body = HTMLBody = _body("html", "HTML")

    @property
    def attachments(self) -> Attachments:
        """The attachments; TooMuch for a message too large to be looked into."""
        return Attachments(self._mime(), self._seal)

    Attachments = attachments

    def get_stream(self) -> Stream:
        """The whole message, with what was set on it."""
        return Stream(self._seen().blob.read())

    GetStream = get_stream

    def save(self) -> None:
        """The same as `data_source.save()`."""
        self._save()

    # ── what fields are made of ────────────────────────────────────────────────────────────────────────────────────

    def header(self, name: str) -> str | None:
        """A header field as text; None where there is none."""
        return self._seen().headers.get(name)

    def set_header(self, name: str, value: str | None) -> None:
        """Set a header field, or remove it. ValueError for an impossible name."""
        headers = self._seen().headers
        if value is None:
            del headers[name]
        else:
            headers[name] = value
        self._changed()

    def header_names(self) -> list[str]:
        """The names of the header fields, in order."""
        return [name for name, _ in self._seen().headers]

    def text(self, kind: str) -> str:
        """The body's text of one kind, "plain" or "html"."""
        return text_of(self._mime(), kind)

    def set_text(self, kind: str, text: str) -> None:
        """Set the body's text of one kind. TooMuch."""
        self._view = View(with_text(self._mime(), kind, text))
        self._changed()

    def _seen(self) -> View:
        """The message with what was set on it. NoContent, CallOver."""
        self._seal.check()
        if self._view is None:
            self._view = View(self.mailmsg._content().snapshot())
        return self._view

    def _mime(self) -> EmailMessage:
        view = self._seen()
        if self._parsed is None:
            self._parsed = parse(view.blob)
        return self._parsed

    def _changed(self) -> None:
        self._is_changed = True
        self._parsed = None

    def _save(self) -> None:
        self._seal.check()
        if self._is_changed:
            self.mailmsg._content().replace(self._seen().blob)
            self._is_changed = False
