"""What the house and a plugin host say to each other, one type a frame.

A frame is a msgpack array: its name, then the fields in the order below, so that a host in C can read it in one pass.
Content never travels in frames, it goes by path. Both sides begin with Hello; the house then sends Load for each plugin
and hears Loaded, then Ready; questions (Ask) may overlap and are answered in any order by their id.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

VERSION = 1
"""Of this dialogue. Both sides must speak the same one."""

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(ge=0)]
Level = Literal["debug", "info", "warning", "error"]


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    """First in both directions, and only there."""

    version: int
    dialect: str


class Load(Struct, frozen=True, array_like=True, tag="load"):
    """House to host: load this plugin. `source` is as in the settings; `properties` were checked for their shape."""

    plugin: str
    source: str
    properties: dict[str, Any]


class Loaded(Struct, frozen=True, array_like=True, tag="loaded"):
    """Host to house: the plugin is there. `facts` holds what it says of itself: stages, bindings, capabilities."""

    plugin: str
    facts: dict[str, Any]


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    """Host to house: everything loaded has been opened; questions may come."""


class Ask(Struct, frozen=True, array_like=True, tag="ask"):
    """House to host: a question. `transaction` is 0 before MAIL; `path` names a private copy of the content."""

    id: Number
    session: str
    transaction: Number
    stage: str
    facts: dict[str, Any]
    deadline_s: Seconds
    path: str | None = None


class Told(Struct, frozen=True, array_like=True, tag="told"):
    """House to host: a notice; nothing is answered."""

    session: str
    notice: str
    facts: dict[str, Any]


class Answer(Struct, frozen=True, array_like=True, tag="answer"):
    """Host to house: the verdict on question `id`. `rewritten`: the file at the question's path holds new content."""

    id: Number
    verdict: dict[str, Any]
    edits: list[dict[str, Any]]
    notes: dict[str, Any]
    rewritten: bool = False


class Failed(Struct, frozen=True, array_like=True, tag="failed"):
    """Host to house: question `id` couldn't be answered; `kind` is the error's name, `text` for the log only."""

    id: Number
    kind: str
    text: str


class Log(Struct, frozen=True, array_like=True, tag="log"):
    """Host to house: a line for the log. The house bounds how many it takes."""

    level: Level
    text: str


class SessionEnded(Struct, frozen=True, array_like=True, tag="ended"):
    """House to host: the session is over; what was kept for it may go."""

    session: str


class Stop(Struct, frozen=True, array_like=True, tag="stop"):
    """House to host: answer what is open, close the plugins, leave."""


FromHost = Hello | Loaded | Ready | Answer | Failed | Log
ToHost = Hello | Load | Ask | Told | SessionEnded | Stop
Frame = FromHost | ToHost
