"""Address lists in header fields (RFC 5322 §3.4): who is named, in linear time and never an exception.

Strategy: one possessive expression cuts the text into quoted strings, comments, angle addresses, separators and words;
a small machine over these lexemes collects mailboxes. It is tolerant: what it can't read is skipped, since other
readers will show something, and `is_clean` says whether anything had to be skipped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_OCTETS = 256 * 1024
MAX_MAILBOXES = 1000

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[(),:;<>@]|[^\s"(),:;<>@]++|\s', re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox of a list: the name shown and the address as written (comments and blanks gone)."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class AddressList:
    """The mailboxes in order, groups opened. `is_clean` is False when something unreadable or too long was skipped."""

    mailboxes: tuple[Mailbox, ...]
    is_clean: bool


def parse_list(text: str) -> AddressList:
    """The mailboxes of a From, To, Cc, Reply-To … value."""
    reader = _Reader()
    for found in _TOKEN.finditer(text[:MAX_OCTETS]):
        if len(reader.mailboxes) >= MAX_MAILBOXES:
            return AddressList(tuple(reader.mailboxes), False)
        reader.take(found[0])
    reader.finish()
    return AddressList(tuple(reader.mailboxes), reader.is_clean and len(text) <= MAX_OCTETS)


class _Reader:
    """Collects tokens of one mailbox until a separator ends it."""

    __slots__ = ("_address", "_comments", "_in_angle", "_words", "is_clean", "mailboxes")

    def __init__(self) -> None:
        self.mailboxes: list[Mailbox] = []
        self.is_clean = True
        self._words: list[str] = []
        self._address: list[str] | None = None
        self._in_angle = False
        self._comments = 0

    def take(self, lexeme: str) -> None:
        if self._comments or lexeme in ("(", ")"):
            self._comment(lexeme)
        elif self._in_angle:
            self._angle(lexeme)
        elif lexeme == "<":
            self.is_clean &= self._address is None
            self._address, self._in_angle = [], True
        elif lexeme in (",", ";"):
            self._end()
        elif lexeme == ":":  # rfc5322#3.4 the words before it name a group
            self._words.clear()
        elif lexeme == ">":
            self.is_clean = False
        else:
            self.is_clean &= lexeme[0] != '"' or _QUOTED.fullmatch(lexeme) is not None
            self._words.append(lexeme)

    def finish(self) -> None:
        self.is_clean &= not self._comments and not self._in_angle
        self._end()

    def _comment(self, lexeme: str) -> None:
        if lexeme == "(":
            self._comments += 1
        elif lexeme == ")":
            self.is_clean &= self._comments > 0
            self._comments = max(0, self._comments - 1)

    def _angle(self, lexeme: str) -> None:
        if lexeme == ">":
            self._in_angle = False
        elif self._address is not None and not lexeme.isspace():
            self._address.append(lexeme)

    def _end(self) -> None:
        if self._address is not None:
            route, colon, last = "".join(self._address).rpartition(":")  # rfc5322#4.4 obs-route
            address = last if colon and route.startswith("@") else "".join(self._address)
            self._add("".join(map(_unquoted, self._words)).strip(), address)
        elif written := "".join(word for word in self._words if not word.isspace()):
            self._add("", written)
        self._words, self._address, self._in_angle = [], None, False

    def _add(self, name: str, address: str) -> None:
        if "@" in address:
            self.mailboxes.append(Mailbox(" ".join(name.split()), address))
        else:
            self.is_clean = False


def _unquoted(word: str) -> str:
    return _PAIR.sub(r"\1", word[1:].removesuffix('"')) if word[0] == '"' else word
