"""Bindings: who is asked at which stage, under which rule, in which order, with what deadline and what on failure.

A binding that can't work is refused when it is made, by name; so the dispatcher meets only bindings that can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gatepost.hooks.breaker import Breaker
from gatepost.hooks.effects import allowed_failures
from gatepost.hooks.rules import Rule, When
from gatepost.hooks.stages import Event

HOUSE_PRIORITY = 24576
"""Where the house's own handling stands in every chain."""
DEFAULT_PRIORITY = 24575
MAX_PRIORITY = 32767


class OnFailure(Enum):
    """What a crash, a time-out, a malformed answer and a dead process come to."""

    TEMPFAIL = "tempfail"
    PROCEED = "proceed"
    REFUSE = "refuse"
    QUARANTINE = "quarantine"


class BindingError(ValueError):
    """A binding that can't work; the text names plugin and stage and says how to mend it."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One plugin bound to one stage."""

    plugin: str
    stage: type[Event]
    hook: Callable[[Event], Any] = field(compare=False, repr=False)
    priority: int = DEFAULT_PRIORITY
    rule: Rule | None = None
    when: When | None = None
    timeout: float | None = None
    """Seconds; None leaves the whole budget of the question."""
    on_failure: OnFailure | None = None
    """None: the stage's own, which is tempfail wherever it can be kept."""
    properties: Any = field(default=None, compare=False, repr=False)
    shadow: bool = False
    always: bool = False
    secrets: bool = False
    may_relay: bool = False
    verbatim: bool = False
    pipelining: bool = False
    """At `out-reply`: commands needn't wait for each other because of it."""
    last: bool = False
    """Asked after all others of its priority."""
    quiet: bool = False
    """Not recorded where it has nothing to say."""
    breaker: Breaker | None = field(default=None, compare=False, repr=False)
    """Shared by all bindings of a plugin."""
    prepare: Callable[[Event], Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        where = f'plugin "{self.plugin}", stage "{self.stage.name}"'
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise BindingError(f"{where}: priority is between 0 and {MAX_PRIORITY}, not {self.priority}")
        if self.priority == HOUSE_PRIORITY:
            raise BindingError(f"{where}: {HOUSE_PRIORITY} is the house's own place; take one below or above")
        if self.timeout is not None and self.timeout <= 0:
            raise BindingError(f"{where}: timeout is more than 0 seconds, not {self.timeout}")
        if self.rule is not None and not self.rule.can_match_at(self.stage.name):
            raise BindingError(f"{where}: its rule can never match here; bind it to the stage that the rule names")
        allowed = allowed_failures(self.stage)
        if self.on_failure is None:
            object.__setattr__(self, "on_failure", OnFailure(allowed[0]))
        elif self.on_failure.value not in allowed:
            raise BindingError(
                f'{where}: on_failure = "{self.on_failure.value}" can\'t be kept here; there is {", ".join(allowed)}'
            )
