"""The events that sinks can be bound to, by the names and categories they had; and GUIDs as they are written.

Contract: Events, COM categories; resolution 9.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name for smtpreg, its category, our stage, and whether a listener is known there."""

    name: str
    category: str
    """{GUID}, upper-case; "" for one that smtpreg doesn't know."""
    stage: str
    is_inbound: bool = False


EVENTS = (
    Event("OnInboundCommand", "{F6628C8D-0D5E-11D2-AA68-00C04FA35B82}", "command", is_inbound=True),
    Event("OnServerResponse", "{F6628C8E-0D5E-11D2-AA68-00C04FA35B82}", "out-reply"),
    Event("OnSessionStart", "{F6628C8F-0D5E-11D2-AA68-00C04FA35B82}", "out-session"),
    Event("OnMessageStart", "{F6628C90-0D5E-11D2-AA68-00C04FA35B82}", "out-message"),
    Event("OnPerRecipient", "{F6628C91-0D5E-11D2-AA68-00C04FA35B82}", "out-recipient"),
    Event("OnBeforeData", "{F6628C92-0D5E-11D2-AA68-00C04FA35B82}", "out-data"),
    Event("OnSessionEnd", "{F6628C93-0D5E-11D2-AA68-00C04FA35B82}", "out-quit"),
    Event("OnOutboundCommand", "", "out-command"),
    Event("OnArrival", "{FF3CAA23-00B9-11D2-9DFB-00C04FA322BA}", "message", is_inbound=True),
    Event("OnPreCategorize", "{A3ACFB0D-83FF-11D2-9E14-00C04FA322BA}", "submitted"),
    Event("OnPostCategorize", "{76719654-05A6-11D2-9DFD-00C04FA322BA}", "expanded"),
)
"""What can be bound."""
INBOUND_STAGES = frozenset(event.stage for event in EVENTS if event.is_inbound)

_OTHER_NAMES = {"ontransportsubmission": "onarrival"}
_OTHER_CATEGORIES = {"{76719654-05A6-11D2-9E00-00C04FA322BA}": "{76719654-05A6-11D2-9DFD-00C04FA322BA}"}
_NOT_HERE: Mapping[str, tuple[str, str]] = {
    "storedriver": (
        "{59175850-E533-11D1-AA67-00C04FA345F6}",
        "a store driver takes messages into a store of its own; here routes deliver them",
    ),
    "oncategorize": (
        "{960252A3-0A3A-11D2-9E00-00C04FA322BA}",
        "the categoriser itself can't be replaced; bind to OnPreCategorize or OnPostCategorize, around it",
    ),
    "ontransportrouter": (
        "{283430C9-1850-11D2-9E03-00C04FA322BA}",
        "where mail goes is said by [[route]], not by a sink",
    ),
    "msgtracklog": ("{C6DF52AA-7DB0-", "what is recorded stands in the trace: gatepost trace"),
    "dnsresolver": ("{BD0B4366-8E03-", "names are looked up as [dns] says"),
    "maxmsgsize": ("{EBF159DE-A67E-", "the largest size is limits.message_size"),
}
"""Events there were and aren't here: category, or how it begins, and why."""


class NoSuchEvent(ValueError):
    """The text says what there is instead, or why it isn't served."""


def event_named(text: str) -> Event:
    """The event of a name, with or without OnSmtp…, or of a category's GUID. NoSuchEvent says why there is none."""
    if text.startswith("{"):
        return _of_category(text)
    word = text.strip().lower()
    plain = word.replace("onsmtp", "on", 1) if word.startswith("onsmtp") else word
    plain = _OTHER_NAMES.get(plain, plain)
    for event in EVENTS:
        if plain == event.name.lower():
            return event
    if plain in _NOT_HERE:
        raise NoSuchEvent(f"{text} can't be bound: {_NOT_HERE[plain][1]}")
    near = get_close_matches(plain, by_lower := {event.name.lower(): event.name for event in EVENTS}, 1, 0.6)
    hint = f'did you mean "{by_lower[near[0]]}"?' if near else "there are " + ", ".join(by_lower.values())
    raise NoSuchEvent(f'there is no event "{text}"; {hint}')


def event_of(stage: str) -> Event | None:
    """The event that a stage of ours is."""
    return next((event for event in EVENTS if event.stage == stage), None)


def _of_category(text: str) -> Event:
    try:
        category = guid(text)
    except ValueError as error:
        raise NoSuchEvent(f'"{text}" is no category: {error}') from None
    category = _OTHER_CATEGORIES.get(category, category)
    for event in EVENTS:
        if event.category == category:
            return event
    for name, (begin, why) in _NOT_HERE.items():
        if category.startswith(begin):
            raise NoSuchEvent(f"{category} is {name}, which can't be bound: {why}")
    raise NoSuchEvent(f"{category} is the category of no event of SMTP")


def guid(text: str) -> str:
    """A GUID in braces, upper-case. ValueError if it isn't one."""
    inside = text.strip()
    if not (inside.startswith("{") and inside.endswith("}")):
        raise ValueError("a GUID stands in braces")
    parts = inside[1:-1].split("-")
    if [len(part) for part in parts] != [8, 4, 4, 4, 12]:
        raise ValueError("a GUID has 8, 4, 4, 4 and 12 digits")
    try:
        return "{" + str(uuid.UUID("".join(parts))).upper() + "}"
    except ValueError:
        raise ValueError("a GUID has hexadecimal digits only") from None
