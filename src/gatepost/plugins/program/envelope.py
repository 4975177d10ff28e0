"""The envelope as programs know it: in their environment, on qmail-qfilter's descriptors, and what they change."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatepost.hooks.stages import Message
from gatepost.model import (
    AddRecipient,
    AddressError,
    ChangeSender,
    Edit,
    Path,
    Recipient,
    RemoveRecipient,
)

_OURS = "GATEPOST_"  # variables of the environment that are the server's, not the program's
_LONGEST = 100_000  # octets of a variable: Linux passes no text of 128 KiB
_NOT_PASSED = frozenset({"FILTERARGS", "SPAMFILTER", "QMAILNAME"})  # the original unsets them


@dataclass(frozen=True, slots=True)
class Addresses:
    """Whom a message is from and for, as a program is told it and as it tells it back. "" is the null sender."""

    sender: str
    recipients: tuple[str, ...]


class EnvelopeError(ValueError):
    """The envelope that a program gives back can't be read; all that it did counts for nothing."""


def addresses(event: Message) -> Addresses:
    """The envelope of the recipients that are asked about."""
    return Addresses(event.sender.address, tuple(recipient.address for recipient in event.recipients))


def base_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The house's environment without the server's own secrets, and `env` over it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS) and key not in _NOT_PASSED}
    return kept | dict(env)


def environment(event: Message, told: Addresses, size: int) -> dict[str, str]:
    """What qmail's filters are told of a message of `size` octets, and of the connection as under ucspi's servers.

    One recipient stands for all where a variable holds one: a message is filtered once, before it is queued. A list
    of recipients that is too long for a variable isn't there.
    """
    session = event.session
    sender, at_sender = _halves(told.sender)
    first = told.recipients[0] if told.recipients else ""
    local, domain = _halves(first)
    found = {
        "_SENDER": told.sender,
        "_RECIPIENT": first,
        "DOMAIN": domain,
        "_EXT": local.partition("-")[2],
        "_QQEH": "",
        "QMAILUSER": sender,
        "QMAILHOST": at_sender,
        "QMAILRCPTS": "".join(f"{recipient}\n" for recipient in told.recipients),
        "NUMRCPTS": str(len(told.recipients)),
        "ENVSIZE": str(len(write_envelope(told))),
        "MSGSIZE": str(size),
        "PROTO": "TCP",
        "TCPREMOTEIP": str(session.peer.address),
        "TCPREMOTEPORT": str(session.peer.port),
        "TCPLOCALIP": session.local[0],
        "TCPLOCALPORT": str(session.local[1]),
        "TCPLOCALHOST": event.server.hostname,
        "HELO": session.helo,
        "GATEPOST_SESSION": session.id,
    }
    if session.user is not None:
        found |= {"TCPREMOTEINFO": session.user, "AUTHENTICATED": "1"}
    if event.transaction is not None:
        found["GATEPOST_TICKET"] = str(event.transaction.ticket)
    if len(found["QMAILRCPTS"].encode()) > _LONGEST:
        del found["QMAILRCPTS"]
    return {key: value.replace("\0", "") for key, value in found.items()}


def write_envelope(told: Addresses) -> bytes:
    r"""`Fsender\0Trecipient\0…\0`, as qmail-queue reads it."""
    parts = [f"F{told.sender}", *(f"T{recipient}" for recipient in told.recipients)]
    return b"".join(part.encode() + b"\0" for part in parts) + b"\0"


def read_envelope(octets: bytes) -> Addresses:
    """What a program wrote in that form. EnvelopeError."""
    if not octets.endswith(b"\0\0"):
        raise EnvelopeError("the envelope it gave back isn't complete")
    try:
        first, *rest = octets[:-2].decode().split("\0")
    except UnicodeDecodeError:
        raise EnvelopeError("the envelope it gave back isn't UTF-8") from None
    if not first.startswith("F") or not all(one.startswith("T") for one in rest):
        raise EnvelopeError("the envelope it gave back isn't a sender and recipients")
    return Addresses(first[1:], tuple(one[1:] for one in rest))


def changes(event: Message, before: Addresses, after: Addresses) -> list[Edit]:
    """The edits that lead from one to the other. EnvelopeError for what is no address."""
    edits: list[Edit] = []
    if after.sender != before.sender:
        edits.append(ChangeSender(_path(after.sender)))
    wanted = [_recipient(address) for address in after.recipients]
    had = [recipient for recipient in event.recipients if recipient.address in before.recipients]
    edits += [RemoveRecipient(one) for one in had if one not in wanted]
    edits += [AddRecipient(one) for one in dict.fromkeys(wanted) if one not in had]
    return edits


def told_in_words(words: Sequence[str], variables: Mapping[str, Any]) -> str:
    """A call as an author reads it: the command, then its own variables."""
    return "\n".join([shlex.join(words), *(f"{key}={value!r}" for key, value in _sorted(variables.items()))])


def _sorted(items: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return sorted(items, key=lambda item: item[0])


def _halves(address: str) -> tuple[str, str]:
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (address, "")


def _path(address: str) -> Path:
    try:
        return Path.parse(address, bare_postmaster=True)
    except AddressError as error:
        raise EnvelopeError(f"it gave back {address[:80]!r}: {error}") from None


def _recipient(address: str) -> Recipient:
    path = _path(address)
    if not path:
        raise EnvelopeError("it gave back a recipient without an address")
    return Recipient(path)
