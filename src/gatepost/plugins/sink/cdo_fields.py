"""CDO's Fields: what a script reads and writes of a message by the names of schemas. Contract: CDO OnArrival.

A value that is set counts from `Update` on, as in CDO; header fields are then in the message that `DataSource.Save`
gives back, and envelope fields are in effect at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from gatepost.plugins.sink.constants import IMMPID_MP
from gatepost.plugins.sink.mailmsg import MailMsgProperties
from gatepost.plugins.sink.mailmsg_bag import BadArgument, PropertyNotFound, Seal

ENVELOPE = "http://schemas.microsoft.com/cdo/smtpenvelope/"
HEADER = "urn:schemas:mailheader:"
HTTPMAIL = "urn:schemas:httpmail:"

_FILETIME = 116_444_736_000_000_000  # 1970, in 100 ns since 1601
_MAIL = {"subject": "Subject", "from": "From", "to": "To", "cc": "Cc", "bcc": "Bcc", "sender": "Sender", "date": "Date"}
_TEXTS = {"textdescription": "plain", "htmldescription": "html"}


class Headers(Protocol):
    """What header fields and texts are read from and written to: the message."""

    def header(self, name: str) -> str | None: ...

    def set_header(self, name: str, value: str | None) -> None: ...

    def text(self, kind: str) -> str: ...

    def set_text(self, kind: str, text: str) -> None: ...

    def header_names(self) -> list[str]: ...


class Field:
    """One field. Its value is what was set last, else what the message has; None where it has none."""

    def __init__(self, fields: Fields, name: str) -> None:
        self._fields = fields
        self.name = name
        self.Name = name

    @property
    def value(self) -> Any:
        """The value: a text, a number (messagestatus) or a datetime (arrivaltime)."""
        return self._fields._value(self.name)

    @value.setter
    def value(self, value: Any) -> None:
        self._fields._stage(self.name, value)

    Value = value

    def __str__(self) -> str:
        return "" if self.value is None else str(self.value)


class Fields:
    """Fields by their names, without regard to case: `fields[name]` is a value, `fields(name)` a Field."""

    def __init__(self, message: MailMsgProperties, headers: Headers, seal: Seal) -> None:
        self._message = message
        self._seal = seal
        self._headers = headers
        self._staged: dict[str, tuple[str, Any]] = {}  # by the name in lower case: as it was spelled, and the value

    def item(self, name: str) -> Field:
        """The field of that name. BadArgument where no field can have it."""
        _check(name)
        return Field(self, name)

    def __call__(self, name: str) -> Field:
        return self.item(name)

    def __getitem__(self, name: str) -> Any:
        return self.item(name).value

    def __setitem__(self, name: str, value: Any) -> None:
        self.item(name).value = value

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def __contains__(self, name: str) -> bool:
        return self[name] is not None

    def __iter__(self) -> Iterator[Field]:
        """The envelope's fields, then the header's."""
        names = [f"{ENVELOPE}{name}" for name in _ENVELOPE]
        return iter([Field(self, name) for name in [*names, *(f"{HEADER}{n}" for n in self._headers.header_names())]])

    def delete(self, name: str) -> None:
        """Remove a header field, from `update` on. BadArgument for another one."""
        if not name.lower().startswith(HEADER):
            raise BadArgument(f"{name} can't be deleted: only fields of {HEADER} can")
        self._staged[name.lower()] = (name, None)

    def update(self) -> None:
        """What was set counts from now on. BadArgument for a value that can't be one."""
        staged, self._staged = self._staged, {}
        for name, value in staged.values():
            self._set(name, value)

    Item, Delete, Update = item, delete, update

    def _value(self, name: str) -> Any:
        self._seal.check()
        name = name.lower()
        if name in self._staged:
            return self._staged[name][1]
        if name.startswith(ENVELOPE):
            return _ENVELOPE[name.removeprefix(ENVELOPE)](self._message)
        if name.startswith(HEADER):
            return self._headers.header(name.removeprefix(HEADER))
        word = name.removeprefix(HTTPMAIL)
        return self._headers.text(_TEXTS[word]) if word in _TEXTS else self._headers.header(_MAIL[word])

    def _stage(self, name: str, value: Any) -> None:
        self._seal.check()
        lower = name.lower()
        if lower.startswith(ENVELOPE) and lower.removeprefix(ENVELOPE) not in _SET:
            raise BadArgument(f"{name} can't be set")
        self._staged[lower] = (name, value)

    def _set(self, name: str, value: Any) -> None:
        lower = name.lower()
        if lower.startswith(ENVELOPE):
            _SET[lower.removeprefix(ENVELOPE)](self._message, value)
        elif (word := lower.removeprefix(HTTPMAIL)) in _TEXTS:
            self._headers.set_text(_TEXTS[word], str(value))
        else:
            header = _MAIL[word] if word in _MAIL else name[len(HEADER) :]
            self._headers.set_header(header, None if value is None else str(value))


def _check(name: str) -> None:
    lower = name.lower()
    for space, words in ((ENVELOPE, _ENVELOPE), (HTTPMAIL, {**_MAIL, **_TEXTS})):
        if lower.startswith(space):
            if lower.removeprefix(space) not in words:
                raise BadArgument(f"there is no field {name}; {space} has {', '.join(words)}")
            return
    if not lower.startswith(HEADER) or lower == HEADER:
        raise BadArgument(f"there is no field {name!r}; names begin with {ENVELOPE}, {HEADER} or {HTTPMAIL}")


# ── the envelope ───────────────────────────────────────────────────────────────────────────────────────────────────


def _arrival_time(message: MailMsgProperties) -> datetime | None:
    try:
        octets = message.get_property(IMMPID_MP.ARRIVAL_FILETIME)
    except PropertyNotFound:
        return None
    return datetime.fromtimestamp((int.from_bytes(octets, "little") - _FILETIME) / 10_000_000, UTC)


def _text(id: int) -> Any:
    def read(message: MailMsgProperties) -> str | None:
        return message.get_string(id) if id in message else None

    return read


def _status(message: MailMsgProperties) -> int:
    return message.get_dword(IMMPID_MP.MESSAGE_STATUS) if IMMPID_MP.MESSAGE_STATUS in message else 0


def _recipient_list(message: MailMsgProperties) -> str:
    return "".join(f"SMTP:{one.address};" for one in message.recipients)


_ENVELOPE: dict[str, Any] = {
    "arrivaltime": _arrival_time,
    "clientipaddress": _text(IMMPID_MP.CONNECTION_IP_ADDRESS),
    "messagestatus": _status,
    "pickupfilename": _text(IMMPID_MP.PICKUP_FILE_NAME),
    "recipientlist": _recipient_list,
    "senderemailaddress": _text(IMMPID_MP.SENDER_ADDRESS_SMTP),
}


def _set_status(message: MailMsgProperties, value: Any) -> None:
    try:
        message.put_dword(IMMPID_MP.MESSAGE_STATUS, int(value))
    except (TypeError, ValueError) as error:
        raise BadArgument(f"{value!r} is no messagestatus") from error


def _set_recipients(message: MailMsgProperties, value: Any) -> None:
    """Who stays keeps what is known of him."""
    known = {one.address.lower(): index for index, one in enumerate(message.recipients)}
    new = message.recipients.alloc_new_list()
    for address in filter(None, (_bare(word) for word in str(value).split(";"))):
        index = known.get(address.lower())
        if index is None:
            new.add_secondary(address)
        else:
            new.add_secondary(address, None, message.recipients, index)
    message.recipients.write_list(new)


def _set_sender(message: MailMsgProperties, value: Any) -> None:
    message.put_string(IMMPID_MP.SENDER_ADDRESS_SMTP, _bare(str(value)))


def _bare(address: str) -> str:
    address = address.strip()
    return address[len("SMTP:") :].strip() if address[:5].upper() == "SMTP:" else address


_SET: dict[str, Any] = {
    "messagestatus": _set_status,
    "recipientlist": _set_recipients,
    "senderemailaddress": _set_sender,
}
