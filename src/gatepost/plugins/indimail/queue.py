"""The queue plugin's settings, which are variables of the environment, and what a scan comes to. Pure.

QHPSI names the libraries, QHPSIRC and QHPSIRN the results that mean a virus and none, REJECTVIRUS what becomes of an
infected message, QHPSIMINSIZE and QHPSIMAXSIZE which messages are scanned (qmail-queue.9).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gatepost.hooks.verdicts import Discard, Proceed, Refuse
from gatepost.model import Reply
from gatepost.plugins.loaded import PluginError

HEADER = "X-QHPSI"
_INFECTED = Reply(554, "5.7.1", "the message is infected with a virus")
_UNSCANNED = Reply(451, "4.3.0", "the message couldn't be scanned, try again later")
_DISCARD = 2


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How results are read. Sizes in octets; 0: no limit."""

    infected: int = 1
    clean: int = 0
    reject: int = 0
    least: int = 0
    most: int = 0

    @classmethod
    def read(cls, env: Mapping[str, str]) -> QueueSettings:
        """As the variables say. PluginError for one that isn't a number."""
        return cls(
            _number(env, "QHPSIRC", 1),
            _number(env, "QHPSIRN", 0),
            _number(env, "REJECTVIRUS", 0),
            _number(env, "QHPSIMINSIZE", 0),
            _number(env, "QHPSIMAXSIZE", 0),
        )

    def scans(self, size: int) -> bool:
        """Whether a message of this size is scanned."""
        return size >= self.least and (self.most <= 0 or size <= self.most)

    def judge(self, result: int) -> tuple[Proceed | Refuse | Discard, str | None]:
        """The verdict, and the value of the header that the message gets."""
        if result == self.infected:
            header = "Virus found"
            if self.reject == 0:
                return Proceed(), header
            if self.reject == _DISCARD:
                return Discard("infected with a virus"), None
            return Refuse(_INFECTED), None
        if result == self.clean:
            return Proceed(), "clean"
        return Refuse(_UNSCANNED), None


def libraries(source: Path, env: Mapping[str, str]) -> list[Path]:
    """Those to ask, in order: `source` itself, or the ones in that folder which QHPSI names. PluginError."""
    if not source.is_dir():
        return [source]
    said = env.get("QHPSI", "").strip()
    kind, colon, names = said.partition(":")
    if not colon or kind.strip() != "plugin" or not names.split():
        why = f'QHPSI is "{said}", a program' if said else "QHPSI isn't set"
        raise PluginError(
            f'"{source}" is a folder, and {why}; say env = {{ QHPSI = "plugin: a.so b.so" }}, or give one library as '
            'source; a program goes with dialect = "program"'
        )
    found = []
    for name in names.split():
        if "/" in name:
            raise PluginError(f'QHPSI names "{name}"; it takes names of files in "{source}"')
        found.append(source / name)
    return found


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name, "").strip()
    if not value:
        return default
    if not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise PluginError(f'{name} is a number, not "{value}"')
    return int(value)
