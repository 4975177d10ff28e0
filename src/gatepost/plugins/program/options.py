"""How a program is run and what its exit codes mean: the plugin's `program = { … }` in the settings, checked.

What has no meaning in the chosen mode is refused: a scanner that never refuses because its codes stood beside the
wrong word would go unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from gatepost.model.edits import check_name
from gatepost.plugins.loaded import PluginError

MIB = 1024 * 1024
NOT_STARTED = frozenset({126, 127})
"""How shells, and what confines a program, say that it couldn't be begun: never an answer."""
REFUSED = (31, 100)
"""A filter's, for ever."""
CUSTOM = 88
"""A filter's, with a text of its own."""

Mode = Literal["filter", "qfilter", "scan", "pickup"]


class OptionError(PluginError):
    """An option that can't be meant; the text says which, why, and how to mend it."""


@dataclass(frozen=True, slots=True)
class ExitCodes:
    """A set of exit codes, written as ORF does: `1, 4, 8-32, 64-` (contract: External Agents)."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> ExitCodes:
        """OptionError for anything but numbers 0–255 and ranges of them, of which the upper end may be open."""
        found: list[tuple[int, int]] = []
        for item in filter(None, (part.strip() for part in text.split(","))):
            one = re.fullmatch(r"(\d{1,3})(?:\s*(-)\s*(\d{1,3})?)?", item, re.ASCII)
            if one is None:
                raise OptionError(f'"{item}" is no exit code; write "1, 4, 8-32, 64-"')
            first = int(one[1])
            last = int(one[3]) if one[3] else 255 if one[2] else first
            if not first <= last <= 255:
                raise OptionError(f'"{item}" is no range of exit codes: they go up from 0 to 255')
            found.append((first, last))
        return cls(tuple(found))

    def __contains__(self, code: int) -> bool:
        return any(first <= code <= last for first, last in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)


@dataclass(frozen=True, slots=True)
class SpamCodes:
    """What the exit codes of a qmail SPAMFILTER mean; any other is a failure (contract: Filters)."""

    spam: int = 0
    """SPAMEXITCODE"""
    ham: int = 1
    """HAMEXITCODE"""
    unsure: int = 2
    """UNSUREEXITCODE"""
    reject: int = 0
    """REJECTSPAM: 0 passes spam on as the filter left it, 1 refuses it, more throws it away."""

    def __post_init__(self) -> None:
        if len({self.spam, self.ham, self.unsure}) < 3:
            raise OptionError("spam, ham and unsure need different exit codes")
        if self.reject < 0:
            raise OptionError(f"reject is 0 (pass on), 1 (refuse) or 2 (throw away), not {self.reject}")


@dataclass(frozen=True, slots=True)
class ProgramOptions:
    """`program = { mode = "scan", hit = "1", … }`. Making one checks it; OptionError says what is wrong."""

    mode: Mode = "filter"
    """filter: standard output replaces the mail. qfilter: the same, with the envelope on descriptors 3 and 4.
    scan: the exit code judges. pickup: MailEnable's MTA pickup event."""
    shell: bool = False
    """`source` is for `/bin/sh -c`; without it words are split and nothing else is done to them."""
    line_ends: Literal["lf", "crlf"] | None = None
    """What the program reads; None: LF for filters, as on a Unix system, CRLF for scan and pickup."""
    output_size: int = 64 * MIB
    """Octets of the largest message the program may give back."""
    text: str = ""
    """What the sender hears with a refusal; "" is the house's own."""
    empty: Literal["failure", "unchanged"] | None = None
    """What success without any content means; None: unchanged for qfilter, else a failure."""
    discard: str = "2, 99"
    """filter: the exit codes that throw the mail away. A shell exits with 2 by its own errors too: a script that never
    means it had better say "99"."""
    spam: SpamCodes | None = None
    """filter: the exit codes are a spam filter's."""
    hit: str = ""
    """scan: the exit codes by which the program finds something, such as `1, 4, 8-32, 64-`."""
    error: str = ""
    """scan: those by which it says that it failed. What is neither has found nothing."""
    action: Literal["refuse", "quarantine", "discard", "tag"] = "refuse"
    """scan: what a hit comes to."""
    header: str = ""
    """scan: the field that `action = "tag"` adds, such as `X-Spam-Flag: YES`."""
    nonzero: Literal["ignore", "hold", "retry"] = "ignore"
    """pickup: what an exit code other than 0 means; hold is a quarantine, retry a failure."""
    connector: str = "SMTP"
    """pickup: the connector type that the program is told."""

    def __post_init__(self) -> None:
        for field in fields(self):
            modes = _BELONGS.get(field.name, (self.mode,))
            if self.mode not in modes and getattr(self, field.name) != _default(field):
                belongs = " and ".join(modes)
                raise OptionError(f'{field.name} has no meaning with mode = "{self.mode}"; it belongs to {belongs}')
        if self.output_size < 1:
            raise OptionError(f"output_size is at least 1 octet, not {self.output_size}")
        hit, error = self.hit_codes, self.error_codes
        if self.spam is not None and self.discard != "2, 99":
            raise OptionError("spam has exit codes of its own; discard is for filters without it")
        if clash := [code for code in (0, *REFUSED, CUSTOM) if code in self.discard_codes]:
            raise OptionError(f"discard: exit code {clash[0]} means something else already")
        if self.mode == "scan":
            if not hit:
                raise OptionError('scan needs to know the exit codes of a hit: hit = "1"')
            if both := [code for code in range(256) if code in hit and code in error]:
                raise OptionError(f"exit code {both[0]} is among both hit and error")
            if (self.action == "tag") != bool(self.header):
                raise OptionError('action = "tag" and header = "X-Spam-Flag: YES" go together')
            if self.header:
                try:
                    check_name(self.tag[0])
                except ValueError as wrong:
                    raise OptionError(f"header: {wrong}") from wrong
        if not re.fullmatch(r"[A-Za-z0-9]{1,16}", self.connector):
            raise OptionError(f'connector is a short code such as "SMTP", not "{self.connector}"')

    @property
    def hit_codes(self) -> ExitCodes:
        """`hit`, read."""
        return ExitCodes.parse(self.hit)

    @property
    def discard_codes(self) -> ExitCodes:
        """`discard`, read."""
        return ExitCodes.parse(self.discard)

    @property
    def error_codes(self) -> ExitCodes:
        """`error`, read."""
        return ExitCodes.parse(self.error)

    @property
    def tag(self) -> tuple[str, str]:
        """`header` as name and value."""
        name, _, value = self.header.partition(":")
        return name.strip(), value.strip()

    @property
    def reads_lf(self) -> bool:
        """Whether the program reads LF."""
        return (self.line_ends or ("crlf" if self.mode in {"scan", "pickup"} else "lf")) == "lf"

    @property
    def empty_is_unchanged(self) -> bool:
        """Whether success without content leaves the message as it was."""
        return (self.empty or ("unchanged" if self.mode == "qfilter" else "failure")) == "unchanged"


_BELONGS: Mapping[str, tuple[Mode, ...]] = MappingProxyType(
    {
        "empty": ("filter", "qfilter", "pickup"),
        "output_size": ("filter", "qfilter", "pickup"),
        "text": ("filter", "qfilter", "scan"),
        "discard": ("filter",),
        "spam": ("filter",),
        "hit": ("scan",),
        "error": ("scan",),
        "action": ("scan",),
        "header": ("scan",),
        "nonzero": ("pickup",),
        "connector": ("pickup",),
    }
)


def _default(field: Any) -> object:
    return None if field.default is MISSING else field.default
