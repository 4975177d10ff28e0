"""What plugin authors write with: `on`, `Plugin`, the verdict functions. Marks only; the loader does the binding.

@on("recipient", rule="rcpt to=*@example.org")
async def left(event): ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypedDict, TypeVar, Unpack, cast

from gatepost.hooks.notices import NOTICES, Notice
from gatepost.hooks.session import ServerView, per_session, per_transaction
from gatepost.hooks.stages import STAGES, Event, stage_named
from gatepost.hooks.verdicts import (
    Accept,
    Answer,
    Discard,
    Hangup,
    Quarantine,
    Refuse,
    Take,
    Verdict,
    accept,
    discard,
    end_session,
    fail,
    hangup,
    jump,
    quarantine,
    refuse,
    repeat,
    send_line,
    send_octets,
    skip,
    take,
    tempfail,
)

P = TypeVar("P")
H = TypeVar("H", bound=Callable[..., Any])
MARK = "__gatepost_marks__"
PREPARE = "__gatepost_prepare__"


class BindingWords(TypedDict, total=False):
    """What a mark may say about its binding: the settings' keys and words. Settings win over code."""

    rule: str
    when: Mapping[str, object]
    priority: int
    timeout: str | float
    on_failure: Literal["tempfail", "proceed", "refuse", "quarantine"]
    inline: bool
    shadow: bool
    always: bool
    secrets: bool
    pipelining: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """One `@on(...)`: the stage or notice, and what was said about the binding."""

    stage: type[Event] | type[Notice]
    words: Mapping[str, Any]


class On:
    """The decorator `on`: marks a function or method for a stage. It stacks, and changes nothing about the function."""

    def __call__(self, stage: str | type[Event] | type[Notice], /, **words: Unpack[BindingWords]) -> Callable[[H], H]:
        """Mark for a stage (or notice) by name or class. LookupError for a name that isn't a stage's."""
        if isinstance(stage, str):
            place: type[Event] | type[Notice] = NOTICES[stage] if stage in NOTICES else stage_named(stage)
        elif stage in STAGES.values() or stage in NOTICES.values():
            place = stage
        else:
            raise LookupError(f"{stage!r} isn't a stage; there are: {', '.join(STAGES)}")
        if unknown := set(words) - set(BindingWords.__annotations__):
            raise TypeError(
                f"on() knows no {', '.join(sorted(unknown))}; it knows {', '.join(BindingWords.__annotations__)}"
            )

        def mark(hook: H) -> H:
            marks = [Mark(place, dict(words)), *getattr(hook, MARK, ())]
            cast(Any, hook).__gatepost_marks__ = marks
            return hook

        return mark


on = On()


def prepare(hook: Callable[..., Any]) -> Callable[[H], H]:
    """Mark a function as another hook's preparation: started as soon as the question is there, beside the others'.

    The hook awaits `event.prepared` for its result. It may look at the event, not change it.
    """

    def mark(preparation: H) -> H:
        cast(Any, hook).__gatepost_prepare__ = preparation
        return preparation

    return mark


class Plugin(Generic[P]):
    """The class form of a plugin: state that lives as long as the generation of settings it was loaded with.

    `P` is a frozen dataclass (or msgspec/pydantic-free class with annotations) of the plugin's properties, or nothing.
    """

    name: str
    properties: P
    properties_type: ClassVar[type | None] = None

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        for base in getattr(cls, "__orig_bases__", ()):
            arguments = getattr(base, "__args__", ())
            if getattr(base, "__origin__", None) is Plugin and arguments and isinstance(arguments[0], type):
                cls.properties_type = arguments[0]

    async def open(self, server: ServerView) -> None:
        """Called before the first connection; raising refuses the start, or the reload."""

    async def close(self) -> None:
        """Called once, after the last session."""


Hook = Callable[[Any], Answer | Awaitable[Answer]]

__all__ = [
    "Accept",
    "Answer",
    "BindingWords",
    "Discard",
    "Hangup",
    "Hook",
    "Mark",
    "On",
    "Plugin",
    "Quarantine",
    "Refuse",
    "Take",
    "Verdict",
    "accept",
    "discard",
    "end_session",
    "fail",
    "hangup",
    "jump",
    "on",
    "per_session",
    "per_transaction",
    "prepare",
    "quarantine",
    "refuse",
    "repeat",
    "send_line",
    "send_octets",
    "skip",
    "take",
    "tempfail",
]
