"""Field values: octets as text for people and plugins, text as octets that can't break a line.

Reading: unfolded, RFC 2047 encoded words decoded (known charsets only, since Python remembers every unknown one for
ever), control characters gone; never an exception. Writing: one field with folds of ours only, at blanks, within 78
octets where blanks allow it and within 998 always; what isn't ASCII becomes encoded words, or stays UTF-8 where the
message travels with SMTPUTF8.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_qp, b2a_base64

from gatepost.model.edits import MAX_NAME, check_name

MAX_LINE = 998  # rfc5322#2.1.1, without CRLF
GOOD_LINE = 78  # rfc5322#2.1.1

_LINE_ENDS = re.compile(r"[\r\n\x0b\x0c\x85\u2028\u2029]+[ \t]*")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_ENCODED = re.compile(r"=\?([^?\s]{1,40})\?([bq])\?([^?\r\n]{0,1000})\?=", re.IGNORECASE)  # rfc2047#2, with blanks
_WORD = re.compile(r"[ \t]*[^ \t]+")
_PHRASE_WORD = re.compile(r'[ \t]*(?:"(?:[^"\\]|\\.)*+"?|<[^<>]*+>?|[,;:]|[^ \t",;:<]+)')
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+", re.ASCII)
_SPECIAL = re.compile(r'["\\]')
_QUOTED_PAIR = re.compile(r"\\(.)")
ADDRESS_FIELDS = frozenset(
    ["from", "to", "cc", "bcc", "reply-to", "sender"]
    + ["resent-" + name for name in ("from", "to", "cc", "bcc", "sender", "reply-to")]
)
_CHARSETS = frozenset(
    ["ascii", "us-ascii", "utf-8", "utf8", "utf-7", "utf-16", "utf-16be", "utf-16le", "latin-1", "latin1"]
    + [f"iso-8859-{n}" for n in (*range(1, 12), 13, 14, 15, 16)]
    + [f"windows-{n}" for n in (874, *range(1250, 1259))]
    + [f"cp{n}" for n in (437, 850, 852, 855, 858, 862, 866, 874, 932, 936, 949, 950, *range(1250, 1259))]
    + ["koi8-r", "koi8-u", "macintosh", "tis-620", "gb2312", "gbk", "gb18030", "hz-gb-2312", "big5", "big5-hkscs"]
    + ["euc-jp", "iso-2022-jp", "iso-2022-jp-2", "shift_jis", "shift-jis", "euc-kr", "ks_c_5601-1987", "iso-2022-kr"]
)
_WORD_OCTETS = 42  # of text in one encoded word: 56 characters of base 64 and 12 around them are below 75


def safe(value: str) -> str:
    """The value on one line: line ends (and the blanks after them) become one blank, other controls go."""
    if value.isprintable():
        return value.strip(" ")
    return _CONTROL.sub("", _LINE_ENDS.sub(" ", value)).strip(" \t")


def write_field(name: str, value: str, *, utf8: bool = False) -> bytes:
    """One field, with its line end. Whatever the value holds, the octets are one field (I1).

    Raises ValueError for an impossible name. `utf8`: the message travels with SMTPUTF8 (RFC 6532).
    """
    check_name(name)
    value = safe(value)
    if value.isascii():
        line = f"{name}: {value}".encode("ascii")
        return line + b"\r\n" if len(line) <= GOOD_LINE else _fold(name, _WORD.findall(value))
    if utf8:
        return _fold(name, _WORD.findall(value))
    return _fold(name, _encode_words(value, name.lower() in ADDRESS_FIELDS))


def unfold(raw: bytes) -> str:
    """The octets after the colon as text on one line, encoded words as they are."""
    if b"\n" in raw:
        raw = raw.replace(b"\r\n", b"").replace(b"\n", b"")  # rfc5322#2.2.3
    try:
        return safe(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return safe(raw.decode("latin-1"))  # what unlabelled octets most often are


def read_value(raw: bytes) -> str:
    """The text of a field's octets after the colon: unfolded, decoded, without control characters."""
    text = unfold(raw)
    return safe(decode_words(text)) if "=?" in text else text


def decode_words(text: str) -> str:
    """The text with its RFC 2047 encoded words decoded; those of unknown charsets stay as they are."""
    out: list[str] = []
    pending, charset, at = b"", "", 0  # octets of neighbouring words of one charset are decoded together
    for word in _ENCODED.finditer(text):
        between = text[at : word.start()]
        name = word[1].partition("*")[0].lower()  # rfc2231#5 a language may follow
        octets = _decode_word(name, word[2], word[3])
        if octets is None:
            continue
        if pending and (name != charset or between.strip(" \t")):
            out.append(decode_charset(pending, charset))
            pending = b""
        if between.strip(" \t") or not (at and charset):  # rfc2047#6.2 blanks between encoded words go
            out.append(between)
        pending, charset, at = pending + octets, name, word.end()
    if pending:
        out.append(decode_charset(pending, charset))
    out.append(text[at:])
    return "".join(out)


def decode_charset(octets: bytes, charset: str) -> str:
    """Octets as text; what doesn't fit becomes U+FFFD, an unknown charset is read as Latin 1."""
    charset = charset.lower()
    if charset not in _CHARSETS:
        charset = "latin-1"
    return octets.decode(charset, "replace")


def phrase(text: str) -> str:
    """A name as it may stand before an address or an id, in ASCII: as it is, quoted, or as encoded words (RFC 5322
    §3.2.5, RFC 2047 §5 (3)).
    """
    text = " ".join(safe(text).split())
    if not text.isascii() or "=?" in text:  # within quotes some readers decode it too
        return "".join(_encode_run(text))
    return text if _ATOMS.fullmatch(text) else '"' + _SPECIAL.sub(r"\\\g<0>", text) + '"'


def _decode_word(charset: str, encoding: str, text: str) -> bytes | None:
    if charset not in _CHARSETS:
        return None
    encoded = text.encode("utf-8")
    if encoding in "qQ":
        return a2b_qp(encoded, header=True)
    try:
        return a2b_base64(encoded + b"=" * (-len(encoded) % 4))
    except Base64Error:
        return None


def _encode_words(value: str, phrases: bool) -> list[str]:
    """The value's words, runs of those that aren't ASCII as encoded words; each with the blanks before it."""
    out: list[str] = []
    run = ""
    for written in (_PHRASE_WORD if phrases else _WORD).findall(value):
        word = written
        if not word.isascii():
            word = _unquote(word) if phrases else word
            run += word if run or not out or word[0] in " \t" else " " + word
            continue
        if run:
            out += _encode_run(run)
            run = ""
            word = word if word[0] in " \t" else " " + word  # rfc2047#5: an encoded word stands alone
        out.append(word)
    return out + _encode_run(run) if run else out


def _encode_run(run: str) -> list[str]:
    """rfc2047#2: encoded words of at most 75 characters, none of them cut inside a character."""
    text = run.lstrip(" \t")
    pieces: list[str] = []
    piece, size = "", 0
    for character in text:
        octets = len(character.encode("utf-8"))
        if size + octets > _WORD_OCTETS:
            pieces.append(piece)
            piece, size = "", 0
        piece += character
        size += octets
    pieces.append(piece)
    words = [f" =?utf-8?b?{b2a_base64(p.encode('utf-8'), newline=False).decode('ascii')}?=" for p in pieces]
    words[0] = run[: len(run) - len(text)] + words[0].lstrip(" ")
    return words


def _unquote(word: str) -> str:
    """rfc2047#5: no encoded word stands within quotes, so the quotes go."""
    text = word.lstrip(" \t")
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        return word[: len(word) - len(text)] + _QUOTED_PAIR.sub(r"\1", text[1:-1])
    return word


def _fold(name: str, words: list[str]) -> bytes:
    """Lines broken before blanks; a word too long for any line becomes encoded words."""
    lines: list[bytes] = []
    line = f"{name}:".encode("ascii")
    first = True
    for word in _short(words):
        octets = (" " + word if first else word).encode("utf-8")
        if not first and len(line) + len(octets) > GOOD_LINE:
            lines.append(line)
            line = octets if octets[:1] in (b" ", b"\t") else b" " + octets
        else:
            line += octets
        first = False
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


def _short(words: list[str]) -> list[str]:
    out: list[str] = []
    for word in words:
        text = word.lstrip(" \t")
        blanks = word[: len(word) - len(text)][:GOOD_LINE]
        if len(word.encode("utf-8")) <= MAX_LINE - MAX_NAME - 2:
            out.append(word)
        else:
            out += _encode_run(blanks + text) if len(text) > MAX_LINE // 2 else [blanks + text]
    return out
