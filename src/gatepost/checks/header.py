"""Refuses (or quarantines, or discards) what an earlier plugin has tagged: tag first, decide here.

[[plugin]]
name = "tagged"
source = "gatepost.checks.header:Header"
priority = 30000
properties = { name = "X-Spam-Flag", value = "YES", verdict = "refuse", text = "refused as spam" }
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gatepost.hooks.api import Answer, Plugin, discard, on, quarantine, refuse
from gatepost.hooks.stages import Message
from gatepost.model import glob_matches


@dataclass(frozen=True)
class Tagged:
    """Which header field, which value (`*` stands for anything), and what it comes to."""

    name: str = "X-Spam-Flag"
    value: str = "YES"
    verdict: Literal["refuse", "quarantine", "discard"] = "refuse"
    text: str = "refused as spam"


class Header(Plugin[Tagged]):
    """Looks at one header field of every message, after whoever may have set it."""

    @on("message", priority=30000)
    async def look(self, event: Message) -> Answer:
        """The verdict, if any field of that name has the value."""
        wanted = self.properties
        for value in event.message.headers.all(wanted.name):
            if glob_matches(wanted.value.lower(), value.strip().lower()):
                event.note(found=f"{wanted.name}: {value}"[:100])
                match wanted.verdict:
                    case "refuse":
                        return refuse(wanted.text)
                    case "quarantine":
                        return quarantine(wanted.text)
                    case "discard":
                        return discard(wanted.text)
        return None
