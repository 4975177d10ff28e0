"""Structured MIME values: a token and its parameters, RFC 2045 §5.1 with RFC 2231 continuations and charsets.

Strategy: one possessive expression reads parameter after parameter in linear time, tolerant of what mailers write;
what can't be read is passed over. Bounded in octets and in number.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from gatepost.content.values import decode_charset, decode_words, safe

MAX_VALUE = 16 * 1024
MAX_PARAMETERS = 100

_COMMENT = re.compile(r'\((?:[^()\\"]|\\.)*+\)')
_TOKEN = re.compile(r"\s*+([^\s;,()]*+)")
_PARAMETER = re.compile(r';\s*+([^\s=;"]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"?|([^;"]*+))', re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)


def parse(value: str) -> tuple[str, dict[str, str]]:
    """The first token in lower case and the parameters, names in lower case; the first of one name counts."""
    value = value[:MAX_VALUE]
    if "(" in value:
        value = _without_comments(value)
    found = _TOKEN.match(value)
    token = "" if found is None else found[1].lower()
    plain: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for count, match in enumerate(_PARAMETER.finditer(value)):
        if count >= MAX_PARAMETERS:
            break
        name = match[1].lower()
        text = match[3].strip() if match[2] is None else _PAIR.sub(r"\1", match[2])
        base, star, rest = name.partition("*")
        if not star:
            plain.setdefault(name, text)
        else:  # rfc2231#3 name*N, #4 name*, both name*N*
            number = rest.removesuffix("*")
            if number.isascii() and (number.isdigit() or not number) and len(number) < 4:
                sections.setdefault(base, {}).setdefault(int(number or 0), (text, name.endswith("*")))
    for base, pieces in sections.items():
        plain[base] = _join(pieces)  # rfc2231 wins over a plain one beside it
    return token, plain


def base_name(name: str) -> str | None:
    """A file name with encoded words decoded, and directories and controls cut off; None if nothing is left."""
    text = safe(decode_words(name))
    text = text.replace("\\", "/").rpartition("/")[2].strip()
    return None if text in ("", ".", "..") else text[:255]


def _join(pieces: dict[int, tuple[str, bool]]) -> str:
    charset, octets = "", b""
    for number in range(len(pieces)):
        if number not in pieces:
            break
        text, encoded = pieces[number]
        if number == 0 and encoded:
            charset, _, text = text.partition("'")
            text = text.rpartition("'")[2] if "'" in text else text
        octets += unquote_to_bytes(text) if encoded else text.encode("utf-8", "replace")
    try:
        return octets.decode("utf-8") if not charset else decode_charset(octets, charset)
    except UnicodeDecodeError:
        return decode_charset(octets, "latin-1")


def _without_comments(value: str) -> str:
    """rfc2045#5.1 allows comments; those within quotes aren't any. Ten depths are enough for honest mail."""
    parts = re.split(r'("(?:[^"\\]|\\.)*+"?)', value)
    for place in range(0, len(parts), 2):
        for _ in range(10):
            shorter = _COMMENT.sub(" ", parts[place])
            if shorter == parts[place]:
                break
            parts[place] = shorter
    return "".join(parts)
