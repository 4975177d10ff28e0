"""What every dialect's loader gives, and what it is asked for: a plugin with its bindings, and wishes about them.

A dialect finds its plugin, says which hooks it has and what it would have them be bound like, and calls `make_binding`
for each; so settings win over code in the same way everywhere, and what can't work is refused by the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gatepost.hooks.bindings import Binding, BindingError, OnFailure
from gatepost.hooks.breaker import Breaker
from gatepost.hooks.notices import Notice
from gatepost.hooks.rules import RuleError, parse_rule, parse_when
from gatepost.hooks.session import ServerView
from gatepost.hooks.stages import Event, stage_named

FOREIGN_PRIORITY = 25000
"""Where dialects are asked that know the house's own answer: after it (DESIGN §3)."""


class PluginError(ValueError):
    """The plugin can't be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What settings (or a call) say about one binding; None leaves what the code says."""

    stages: tuple[str, ...] = ()
    """Only these stages of the plugin; () for all it has."""
    rule: str | None = None
    when: Mapping[str, object] | None = None
    priority: int | None = None
    timeout: float | None = None
    on_failure: str | None = None
    shadow: bool | None = None
    always: bool | None = None
    pipelining: bool | None = None
    secrets: bool | None = None
    inline: bool | None = None
    may_relay: bool = False
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call of a foreign plugin as it happened, for whoever debugs it: what was passed, what came back."""

    plugin: str
    stage: str
    passed: str
    returned: str


@dataclass(slots=True)
class Loaded:
    """A plugin, ready: what it is bound to, what it is told, and how it is opened and closed."""

    name: str
    source: str
    dialect: str = "python"
    bindings: list[Binding] = field(default_factory=list)
    told: list[tuple[type[Notice], Callable[[Any], Any]]] = field(default_factory=list)
    on_exchange: Callable[[Exchange], None] | None = None
    """Hears every call, in dialects that aren't Python; `gatepost try` prints them."""

    async def open(self, server: ServerView) -> None:
        """Before the first connection; PluginError if the plugin can't open."""

    async def close(self) -> None:
        """After the last session. An error goes on to the caller, after everything was closed."""


def bind_stages(
    loaded: Loaded,
    hooks: Mapping[type[Event], Callable[[Any], Any]],
    wishes: Sequence[Wish] = (),
    *,
    words: Mapping[str, Any] = MappingProxyType({"priority": FOREIGN_PRIORITY}),
    only_if_named: Collection[type[Event]] = (),
) -> None:
    """Bind a plugin that has one hook for a stage, once for each wish. `words`: what its dialect would have;
    `only_if_named`: stages that it isn't bound to where a wish names none.
    """
    breaker = Breaker()
    for wish in wishes or (Wish(),):
        wanted = wanted_stages(loaded.name, wish, hooks)
        if not wish.stages:
            wanted -= set(only_if_named)
        for stage, hook in hooks.items():
            if stage in wanted:
                loaded.bindings.append(make_binding(loaded.name, stage, hook, words, wish, breaker))


def wanted_stages(plugin: str, wish: Wish, has: Iterable[type[Event]]) -> set[type[Event]]:
    """Which of the stages that a plugin has are to be bound. PluginError for a stage that it hasn't."""
    known = set(has)
    wanted: set[type[Event]] = set()
    for name in wish.stages:
        try:
            wanted.add(stage_named(name))
        except LookupError as error:
            raise PluginError(f'plugin "{plugin}": {error}') from error
    if missing := wanted - known:
        named = ", ".join(sorted(stage.name for stage in missing))
        there = ", ".join(sorted(stage.name for stage in known))
        raise PluginError(f'plugin "{plugin}" has nothing for the stage {named}; it has: {there}')
    return wanted or known


def make_binding(
    plugin: str,
    stage: type[Event],
    hook: Callable[[Any], Any],
    words: Mapping[str, Any],
    wish: Wish,
    breaker: Breaker,
    *,
    properties: Any = None,
    prepare: Callable[[Any], Any] | None = None,
) -> Binding:
    """One binding: `words` say how the plugin itself would be asked, the wish wins. PluginError if that can't work."""
    said = {key: value for key, value in words.items() if key != "inline"}
    for key in ("rule", "when", "priority", "timeout", "on_failure", "shadow", "always", "secrets", "pipelining"):
        if (value := getattr(wish, key)) is not None:
            said[key] = value
    try:
        ehlo_is_helo = said.pop("ehlo_is_helo", True)
        rule = parse_rule(said.pop("rule", None) or "", ehlo_is_helo=ehlo_is_helo)
        when = parse_when(said.pop("when", None) or {})
        failure = said.pop("on_failure", None)
        timeout = said.pop("timeout", None)
        return Binding(
            plugin=plugin,
            stage=stage,
            hook=hook,
            rule=rule,
            when=when,
            timeout=None if timeout is None else seconds(timeout),
            on_failure=None if failure is None else OnFailure(failure),
            properties=MappingProxyType({}) if properties is None else properties,
            may_relay=wish.may_relay,
            verbatim=wish.verbatim,
            breaker=breaker,
            prepare=prepare,
            **said,
        )
    except BindingError as error:
        raise PluginError(str(error)) from error
    except (RuleError, ValueError, TypeError) as error:
        raise PluginError(f'plugin "{plugin}", stage "{stage.name}": {error}') from error


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: str | float) -> float:
    """ "5s", "2m" or a number of seconds; ValueError otherwise."""
    if not isinstance(value, str):
        return float(value)
    number = value.rstrip("smhd")
    unit = value[len(number) :] or "s"
    if unit not in _UNITS:
        raise ValueError(f'"{value}" is no duration; write 5s, 2m, 1h')
    return float(number) * _UNITS[unit]
