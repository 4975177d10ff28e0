"""What the settings of a sink say beside those that every plugin has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """How a sink is made and asked."""

    cls: str = ""
    """Its class: of a library "{CLSID}" or a ProgID, "" for the only one it has; of Python an attribute's name."""
    create: Literal["factory", "com"] = "factory"
    """Of a Windows library: by the class factory that it exports, or through the registry (CoCreateInstance)."""
    register: bool = True
    """Let a Windows library that is created by "com" register itself first, as regsvr32 does."""
    instance: int = 0
    """The virtual server that the sink is bound to; 0 for every one."""
    ehlo_matches_helo: bool = False
    """Whether a rule's `ehlo=` is about HELO too."""
    threads: int = 8
    """Calls of a library at a time."""


USUAL = SinkOptions()
"""Where the settings say nothing."""
