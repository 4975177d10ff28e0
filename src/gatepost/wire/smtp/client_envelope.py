"""The lines that tell a server of an envelope: MAIL and RCPT with the parameters of the extensions it offers.

Strategy: values that came from somebody else (ENVID, ORCPT, NOTIFY) are looked over once more and left out where they
aren't what the standard says: a parameter less is better than a line more.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatepost.model import Body, Recipient, xtext
from gatepost.wire.smtp import wishes
from gatepost.wire.smtp.client_events import Capabilities, Introduction, Purpose, Transaction

_MAX_ATTRIBUTE = 255  # characters of a value
_MAX_INTRODUCTION = 510  # characters of a command


def command(text: str) -> bytes:
    """A command line. Raises ValueError where it would be more than one line."""
    if "\r" in text or "\n" in text or "\0" in text:
        raise ValueError("a command line can't hold CR, LF or NUL")
    return text.encode() + b"\r\n"


def mail(transaction: Transaction, offered: Capabilities, *, needs_utf8: bool, wants_each: bool = False) -> str:
    """The MAIL command, without CRLF. 8-bit content is declared where that is offered; it is for the caller to convert
    it elsewhere. `wants_each`: the server is asked to answer the content for each recipient (draft-hall-prdr).
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
    if wants_each:
        line += " PRDR"
    if "DSN" in keywords:
        if transaction.ret and wishes.is_ret(transaction.ret):
            line += f" RET={transaction.ret}"  # rfc3461#4.3
        if transaction.envid and wishes.is_envid(transaction.envid):
            line += f" ENVID={transaction.envid}"  # rfc3461#4.4
    return line


def rcpt(recipient: Recipient, offered: Capabilities) -> str:
    """The RCPT command, without CRLF."""
    line = f"RCPT TO:<{recipient.address}>"
    if recipient.parameters and "DSN" in offered.keywords:
        notify, orcpt = recipient.parameters.get("NOTIFY", ""), recipient.parameters.get("ORCPT", "")
        if notify and wishes.is_notify(notify):
            line += f" NOTIFY={notify}"  # rfc3461#4.1
        # an address beyond ASCII may be written in ASCII (rfc6533#3); where it isn't, it needs a server that takes it
        if orcpt and wishes.is_orcpt(orcpt) and (orcpt.isascii() or recipient.path.needs_smtputf8):
            line += f" ORCPT={orcpt}"  # rfc3461#4.2
    return line


def introduction(attributes: Mapping[str, str], by: Introduction, offered: Capabilities) -> list[bytes]:
    """The commands that tell the server for whom we speak: the attributes it has asked for in EHLO."""
    wanted = offered.keywords.get(by.value, "").upper().split()
    lines: list[str] = []
    for name, value in attributes.items():
        if name.upper() not in wanted:
            continue
        written = xtext.encode(value)
        if not 0 < len(written) <= _MAX_ATTRIBUTE:
            written = "[UNAVAILABLE]"
        item = f" {name.upper()}={written}"
        if lines and len(lines[-1]) + len(item) <= _MAX_INTRODUCTION:
            lines[-1] += item
        elif not lines or by is Introduction.XFORWARD:  # a second XCLIENT would need a second hello
            lines.append(by.value + item)
    return [command(line) for line in lines]


def hello_of(attributes: Mapping[str, str]) -> str:
    """The name that an introduced client said in its hello, where it can be said again; "" if not."""
    helo = attributes.get("HELO", "")
    return helo if helo.isascii() and helo.isprintable() and " " not in helo and len(helo) <= _MAX_ATTRIBUTE else ""
