"""The options of IndiMail's plugtest(1), so that its users find them again at `gatepost try`. Pure."""

from __future__ import annotations

import getopt
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from gatepost.plugins.loaded import PluginError

USAGE = "plugtest -M|-T|-D [-r remoteip] [-R remotehost] [-l localip] [-m from] [rcpt…]"
_STAGES = {"-M": "sender", "-T": "recipient", "-D": "message"}
_WORDS = {"-r": "ip", "-R": "host", "-l": "local", "-m": "sender"}


class PlugtestError(PluginError):
    """The options aren't plugtest's; the text says which, and how it is written."""


def read_plugtest(arguments: Sequence[str]) -> Mapping[str, Any]:
    """What the options ask for, by the names that `gatepost try` uses; only what they say. PlugtestError.

    `stages` (a tuple, in the order of a session), `ip`, `host` (the client's name), `local` (our address), `sender`,
    `to` (a list).
    """
    try:
        options, recipients = getopt.gnu_getopt([*arguments], "MTDr:R:l:m:")
    except getopt.GetoptError as error:
        raise PlugtestError(f"{error}; it is {USAGE}") from None
    asked: dict[str, Any] = {}
    stages = {_STAGES[option] for option, _ in options if option in _STAGES}
    if stages:
        asked["stages"] = tuple(stage for stage in _STAGES.values() if stage in stages)
    for option, value in options:
        if (word := _WORDS.get(option)) is not None:
            asked[word] = value
    if recipients:
        asked["to"] = recipients
    for word in ("ip", "local"):
        try:
            ip_address(asked.get(word, "::"))
        except ValueError:
            raise PlugtestError(f'"{asked[word]}" is no address; it is {USAGE}') from None
    if "recipient" in stages and not recipients:
        raise PlugtestError(f"-T needs a recipient; it is {USAGE}")
    return asked
