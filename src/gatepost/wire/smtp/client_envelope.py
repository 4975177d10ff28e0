"""The lines that tell a server of an envelope: MAIL and RCPT with the parameters of the extensions it offers.

Strategy: values that came from somebody else (ENVID, ORCPT, NOTIFY) are taken apart and written anew, or left out where
they aren't what the standard says: a parameter less is better than a line more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gatepost.model import Body, Recipient
from gatepost.wire.smtp.client_events import Capabilities, Introduction, Purpose, Transaction

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # rfc3461#4
_HEX = re.compile(r"\+([0-9A-F]{2})")
_NOT_PLAIN = re.compile(r"[^!-*,-<>-~]")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")  # an atom, as far as address types go
_PRINTABLE = re.compile(r"[ -~]*")
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_ESCAPED = frozenset(chr(octet) for octet in range(256) if not 33 <= octet <= 126) | frozenset("+=")
_MAX_ATTRIBUTE = 255  # characters of a value
_MAX_INTRODUCTION = 510  # characters of a command
MAX_ENVID = 100  # rfc3461#4.4
MAX_ORCPT = 500  # rfc3461#4.2


def command(text: str) -> bytes:
    """A command line. Raises ValueError where it would be more than one line."""
    if "\r" in text or "\n" in text or "\0" in text:
        raise ValueError("a command line can't hold CR, LF or NUL")
    return text.encode() + b"\r\n"


def xtext(text: str) -> str:
    """ASCII text as an xtext value. Raises ValueError for other text."""
    if not text.isascii():
        raise ValueError("xtext is ASCII")
    return _NOT_PLAIN.sub(lambda match: f"+{ord(match[0]):02X}", text)  # rfc3461#4


def plain(value: str) -> str | None:
    """What an xtext value stands for; None where it isn't one, or isn't printable ASCII."""
    if not _XTEXT.fullmatch(value):
        return None
    text = _HEX.sub(lambda match: chr(int(match[1], 16)), value)
    return text if _PRINTABLE.fullmatch(text) else None


def mail(transaction: Transaction, offered: Capabilities, *, needs_utf8: bool) -> str:
    """The MAIL command, without CRLF. 8-bit content is declared where that is offered; it is for the caller to convert
    it elsewhere.
    """
    line = f"MAIL FROM:<{transaction.sender.address}>"
    keywords = offered.keywords
    if "SIZE" in keywords and (transaction.size or transaction.purpose is not Purpose.PROBE):
        line += f" SIZE={transaction.size}"  # rfc1870#3
    body = transaction.body
    if body is Body.BINARY_MIME or (body is Body.EIGHT_BIT_MIME and "8BITMIME" in keywords):
        line += f" BODY={body.value}"  # rfc6152#3, rfc3030#3
    if needs_utf8:
        line += " SMTPUTF8"  # rfc6531#3.4
    if transaction.requiretls and "REQUIRETLS" in keywords:
        line += " REQUIRETLS"  # rfc8689#2
    if "DSN" in keywords:
        if transaction.ret in ("FULL", "HDRS"):
            line += f" RET={transaction.ret}"  # rfc3461#4.3
        if transaction.envid and (text := plain(transaction.envid)):
            value = xtext(text)
            if len(value) <= MAX_ENVID:
                line += f" ENVID={value}"  # rfc3461#4.4
    return line


def rcpt(recipient: Recipient, offered: Capabilities) -> str:
    """The RCPT command, without CRLF."""
    line = f"RCPT TO:<{recipient.address}>"
    if recipient.parameters and "DSN" in offered.keywords:
        if notify := _notify(recipient.parameters.get("NOTIFY", "")):
            line += f" NOTIFY={notify}"  # rfc3461#4.1
        if orcpt := _orcpt(recipient.parameters.get("ORCPT", "")):
            line += f" ORCPT={orcpt}"  # rfc3461#4.2
    return line


def _notify(value: str) -> str:
    wanted = value.upper().split(",")
    return ",".join(wanted) if wanted == ["NEVER"] or _NOTIFY.issuperset(wanted) else ""


def _orcpt(value: str) -> str:
    kind, separator, address = value.partition(";")
    text = plain(address) if separator and _TYPE.fullmatch(kind) else None
    if not text:
        return ""
    # rfc6533#3: \x{…} is part of a utf-8 address' own encoding, which is ASCII and so xtext too
    written = f"{kind};{xtext(text)}"
    return written if len(written) <= MAX_ORCPT else ""


def introduction(attributes: Mapping[str, str], by: Introduction, offered: Capabilities) -> list[bytes]:
    """The commands that tell the server for whom we speak: the attributes it has asked for in EHLO."""
    wanted = offered.keywords.get(by.value, "").upper().split()
    lines: list[str] = []
    for name, value in attributes.items():
        if name.upper() not in wanted:
            continue
        written = "".join(chr(octet) if chr(octet) not in _ESCAPED else f"+{octet:02X}" for octet in value.encode())
        if not 0 < len(written) <= _MAX_ATTRIBUTE:
            written = "[UNAVAILABLE]"
        item = f" {name.upper()}={written}"
        if lines and len(lines[-1]) + len(item) <= _MAX_INTRODUCTION:
            lines[-1] += item
        elif not lines or by is Introduction.XFORWARD:  # a second XCLIENT would need a second hello
            lines.append(by.value + item)
    return [command(line) for line in lines]
