"""The patterns of rules: of addresses, and of the names that EHLO says. Checked and taken apart once, at load.

An address pattern is a name part (`*`, `x`, `*x`, `x*`, `*x*`) and, if need be, `@` and a domain part (`*`, `x`, `*x`);
without one any domain fits. A domain pattern is the domain part alone. An asterisk stands for any characters, none
among them. What can't be meant is refused, with the place where it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gatepost.model import AddressError, Path, glob_matches
from gatepost.model.path import parse_domain

NULL = "<>"
"""The pattern of the null path, which notices come from."""
_NAME = re.compile(r"\*?[^*]+\*?|\*")
_FOREIGN_IN_NAME = re.compile(r'[\s<>@,:;"\\()\x00-\x1f\x7f]')
_FOREIGN_IN_DOMAIN = re.compile(r"[^\w.\[\]:-]")
_IN_COMMAND = re.compile(r"\s*(?:MAIL|RCPT)\s+(?:FROM|TO)\s*:\s*(?:<(.*)>|(\S+))?", re.IGNORECASE)
_BRACKETED = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^">])*)>')
_ROUTE = re.compile(r"@[^:]*:")  # rfc5321#4.1.2 A-d-l, to be ignored


class RuleError(ValueError):
    """A rule or condition that isn't one; the text says how to mend it. `position` counts the rule's characters from 0;
    -1: there is no place."""

    def __init__(self, text: str, position: int = -1) -> None:
        super().__init__(text)
        self.position = position

    def pointed(self, rule: str) -> str:
        """The rule, and a caret under the place: two lines."""
        at = min(max(self.position, 0), len(rule))
        return f"{rule}\n{' ' * at}^"


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """Which paths fit. Equal by its text."""

    text: str
    _local: str = field(default="", compare=False, repr=False)
    _domain: str = field(default="", compare=False, repr=False)

    def fits(self, path: Path) -> bool:
        """Whether a path fits; "*" fits the null path too."""
        if self.text == "*":
            return True
        return glob_matches(self._local, path.local.lower()) and glob_matches(self._domain, path.domain)


def address_pattern(text: str) -> AddressPattern:
    """The pattern written so, lower-case. RuleError where it can't be meant."""
    text = text.lower()
    if text == NULL:
        return AddressPattern(NULL)
    name, at, domain = text.rpartition("@")
    if not at:
        name, domain = domain, "*"
    if not name:
        raise RuleError(f'"{text}" has nothing before its @; write *{text} for everybody there', 0)
    if foreign := _FOREIGN_IN_NAME.search(name):
        raise RuleError(
            f"{_character(foreign[0])} can't stand in a pattern; write name@domain, without brackets",
            foreign.start(),
        )
    if not _NAME.fullmatch(name):
        raise RuleError(
            f'"{name}" has an asterisk in its middle; one may stand at the beginning and one at the end',
            _misplaced(name),
        )
    return AddressPattern(text, name, domain_pattern(domain, len(name) + 1))


def domain_pattern(text: str, position: int = 0) -> str:
    """The domain part of a pattern, lower-case, with A-labels. RuleError, its position counted from `position`."""
    text = text.lower()
    rest = text.removeprefix("*")
    before = len(text) - len(rest)
    if not text:
        raise RuleError("there is no domain behind the @; leave the @ out, for any domain", position)
    if "@" in text:
        raise RuleError("a name of EHLO has no @; write *.example.com", position + text.index("@"))
    if "*" in rest:
        raise RuleError(
            f'"{text}" has an asterisk in its middle or at its end; in a domain one may stand at the beginning',
            position + before + rest.index("*"),
        )
    if foreign := _FOREIGN_IN_DOMAIN.search(rest):
        raise RuleError(
            f"{_character(foreign[0])} can't stand in a domain; write *.example.com",
            position + before + foreign.start(),
        )
    if rest.isascii():
        return text
    dot = "." if rest.startswith(".") else ""
    try:
        return text[:before] + dot + parse_domain(rest.removeprefix("."))
    except AddressError as error:
        raise RuleError(f'"{rest}": {error}; write it as it stands in the DNS', position) from None


def path_in(line: str) -> Path | None:
    """The path of a MAIL or RCPT line, read as tolerantly as can be; None if there is none that could be had."""
    found = _IN_COMMAND.match(line)
    if found is None or (found[1] is None and found[2] is None):
        return None
    text = found[2]
    if found[1] is not None:
        inside = _BRACKETED.match(found[1] + ">")
        text = found[1] if inside is None else inside[1]
    try:
        return Path.parse(_ROUTE.sub("", text.strip(), count=1), bare_postmaster=True)
    except AddressError:
        return None


def _misplaced(name: str) -> int:
    """Where the first asterisk stands that may not."""
    return name.index("*", 1)


def _character(text: str) -> str:
    return "a blank" if text.isspace() else f'"{text}"' if text.isprintable() else "a control character"
