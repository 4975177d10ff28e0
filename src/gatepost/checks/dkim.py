"""Signs what leaves with DKIM: an ordinary plugin, bound to `out-message` behind all others.

Strategy: the domain of From says who signs, else the sender's; all keys of that domain whose time it is sign at once.
A message that nobody here stands for, or that can't be signed, goes as it is, and a note says so. So does what goes by
routes that are open to anyone only, unless the settings say otherwise: a stranger may have brought it under our name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatepost.content.addresses import parse_list
from gatepost.content.dkim import NAME, SigningKey, Style, Unsigned, sign
from gatepost.content.dkim_canonical import BodyHash
from gatepost.content.downgrade import downgrade
from gatepost.content.headers import Section, read_section
from gatepost.content.values import unfold
from gatepost.content.view import View
from gatepost.hooks.stages import OutMessage
from gatepost.model import (
    AddressError,
    Blob,
    Message,
    Path,
    ReplaceBody,
    ReplaceMessage,
    ReplacePart,
    glob_matches,
)
from gatepost.model.path import parse_domain

PRIORITY = 32000
"""Behind whoever changes the message: what is signed mustn't change any more."""
_SHAPING = (ReplaceBody, ReplacePart, ReplaceMessage)


@dataclass(frozen=True, slots=True)
class TimedKey:
    """A key, and between which moments it signs (Unix time in seconds; None: without a bound)."""

    key: SigningKey
    begins: float | None = None
    ends: float | None = None

    def signs_at(self, now: float) -> bool:
        """Whether it is its time."""
        return (self.begins is None or self.begins <= now) and (self.ends is None or now < self.ends)


@dataclass(frozen=True, slots=True)
class Signer:
    """A domain that signs: for which domains (patterns in lower case), with which keys, how."""

    domain: str
    match: tuple[str, ...]
    keys: tuple[TimedKey, ...]
    style: Style
    strangers: bool = False
    """Whether it signs what anyone may have brought."""


class Dkim:
    """Signs each message for its domain. Immutable."""

    def __init__(self, signers: Sequence[Signer], is_open: Callable[[Path], bool] = lambda recipient: False) -> None:
        """`is_open`: whether anyone may send to a recipient."""
        self._signers = tuple(signers)
        self._is_open = is_open

    def signer_of(self, domain: str) -> Signer | None:
        """Who signs for a domain: its own signer, else the first whose patterns fit."""
        own = next((one for one in self._signers if one.domain == domain), None)
        return own or next((one for one in self._signers if any(glob_matches(p, domain) for p in one.match)), None)

    def choose(self, section: Section, sender_domain: str) -> Signer | None:
        """Who signs a message with this header section."""
        for domain in (author_domain(section), sender_domain):
            if domain and (found := self.signer_of(domain)) is not None:
                return found
        return None

    async def sign(self, event: OutMessage) -> None:
        """Adds the signatures on top."""
        message: Message = event.message
        section = read_section(message.blob)
        signer = self.choose(section, event.sender.domain)
        if signer is None:
            return
        if not signer.strangers and all(self._is_open(recipient.path) for recipient in event.recipients):
            event.note(dkim="unsigned: anyone may have sent it")
            return
        now = event.server.clock.unix()[0]
        keys = [one.key for one in signer.keys if one.signs_at(now)]
        if not keys:
            event.note(dkim=f"unsigned: no key of {signer.domain} signs today")
            return
        if (shaped := await _in_seven_bits(event)) is not None:
            event.turn.record(ReplaceMessage(shaped))
            message = View(shaped, record=event.turn.record)
            section = read_section(shaped)
        try:
            values = sign(section, await _body(message, len(section.raw), signer.style), keys, signer.style, int(now))
        except Unsigned as error:
            event.note(dkim=f"unsigned: {error}")
            return
        for value in values:
            message.headers.add(NAME, value, at=0)
        event.note(dkim=", ".join(f"{key.selector}._domainkey.{key.domain}" for key in keys))


def author_domain(section: Section) -> str:
    """The domain of From's first address as A-labels, from what is written there, not from what it decodes to; "" if
    there is none.
    """
    values = section.raw_values("from")
    found = parse_list(unfold(values[0])).mailboxes if values else ()
    try:
        return parse_domain(found[0].address.rpartition("@")[2]) if found else ""
    except AddressError:
        return ""


async def _in_seven_bits(event: OutMessage) -> Blob | None:
    """What the message will have to become after all plugins, where one before us has put 8-bit content into it and
    the server takes none: signed has to be what goes.
    """
    edits = () if event.transaction is None else event.transaction.edits
    if "8BITMIME" in event.capabilities or not any(isinstance(edit, _SHAPING) for edit in edits):
        return None
    content = event.message.blob
    converted = await asyncio.to_thread(downgrade, content)
    return None if converted is content else converted


async def _body(message: Message, start: int, style: Style) -> bytes:
    """The digest of what follows the header section; other sessions go on between chunks."""
    body = BodyHash(style.body)
    async for chunk in message:
        if start < len(chunk):
            body.feed(chunk[start:] if start else chunk)
        start = max(0, start - len(chunk))
    return body.digest()
