"""Command lines: from octets to verb and arguments, or to the reply that says what is wrong; and what of a line may be
shown.

Strategy: a line is decoded and looked over for control characters once; what follows works on text. A refusal is a
value. One liberty: blanks around arguments, which some clients send; after PASS they are the password.
"""

from __future__ import annotations

import binascii
import re
from binascii import a2b_base64

from gatepost.wire.pop3 import refusals as no
from gatepost.wire.pop3.replies import Reply
from gatepost.wire.pop3.states import Verb

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DIGITS = re.compile(r"[0-9]+")
_DIGEST = re.compile(r"[0-9a-f]{32}")  # rfc1939#7: 16 octets in hexadecimal, lower-case
_MAX_DIGITS = 10
_VERBS: dict[str, Verb] = {verb.value: verb for verb in Verb if verb is not Verb.UNKNOWN}
_SECRET = re.compile(rb"PASS|AUTH|APOP", re.IGNORECASE)


def decode(line: bytes) -> str | Reply:
    """The text of a line without its line end: ASCII, or UTF-8 (rfc6856#2.2), without control characters."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return no.NOT_UTF8 if line[:5].upper() in (b"USER ", b"PASS ", b"APOP ") else no.NOT_TEXT
    return no.NOT_TEXT if _CONTROL.search(text) else text


def split(text: str) -> tuple[Verb, str]:
    """Verb, in any case (rfc1939#3), and what follows the blank after it, as it is."""
    word, _, argument = text.partition(" ")
    return _VERBS.get(word.upper(), Verb.UNKNOWN), argument


def shown(line: bytes, most: int) -> bytes:
    """What of a line may be told: nothing of what follows a word that a secret may follow, wherever it stands. So two
    commands that a stray CR has made one line hide theirs too."""
    secret = _SECRET.search(line)
    return line[: min(secret.end(), most) if secret else most]


def number(word: str) -> int | Reply:
    """A message number: 1 and above."""
    if not _DIGITS.fullmatch(word):
        return no.NO_NUMBER
    word = word.lstrip("0")
    return int(word) if 0 < len(word) <= _MAX_DIGITS else no.NO_MESSAGE


def top(argument: str) -> tuple[int, int] | Reply:
    """TOP's message number and its count of lines, of which more than any message has are as good as all."""
    words = argument.split()
    if len(words) != 2 or not _DIGITS.fullmatch(words[1]):
        return no.TOP_FORM
    message = number(words[0])
    if isinstance(message, Reply):
        return message
    digits = words[1].lstrip("0")
    return message, int(digits or "0") if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS


def apop(argument: str) -> tuple[str, str] | Reply:
    """APOP's name and digest; a name may hold blanks, a digest can't."""
    name, _, digest = argument.rpartition(" ")
    name = name.rstrip(" ")
    return (name, digest) if name and _DIGEST.fullmatch(digest) else no.APOP_FORM


def base64(text: bytes) -> bytes | Reply:
    """The octets of a SASL response."""
    try:
        return a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return no.NOT_BASE64
