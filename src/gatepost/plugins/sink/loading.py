"""Loads an event sink, a class in Python or in a library, and binds it to its events. Contract: Events, Bindings."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.bindings import MAX_PRIORITY, Binding
from gatepost.hooks.breaker import Breaker
from gatepost.hooks.events import Event
from gatepost.hooks.session import ServerView
from gatepost.plugins.finding import find
from gatepost.plugins.loaded import Loaded, PluginError, Wish, make_binding, wanted_stages
from gatepost.plugins.sink import inbound
from gatepost.plugins.sink.asking import Asker
from gatepost.plugins.sink.creating import PythonSink
from gatepost.plugins.sink.native import load_native
from gatepost.plugins.sink.options import USUAL, SinkOptions
from gatepost.plugins.sink.outbound import ASKED_AT, closing_hooks, outgoing_hooks
from gatepost.plugins.sink.spelling import attribute_of, methods_of, misspelt
from gatepost.plugins.sink.states import Sink
from gatepost.plugins.sink.transport import METHODS, transport_hooks

Stage = type[Event]

OUT_EVENTS: tuple[Stage, ...] = (
    stages.OutSession,
    stages.OutMessage,
    stages.OutRecipient,
    stages.OutData,
    stages.OutQuit,
)
"""Where a sink for outgoing commands is asked only if it is bound there by name; else it is asked about every one."""

_EVENTS: Mapping[str, tuple[Stage, ...]] = MappingProxyType(
    {
        "OnSmtpInCommand": (stages.Command,),
        "OnSmtpOutCommand": (stages.OutCommand, *OUT_EVENTS),
        "OnSmtpServerResponse": (stages.OutReply,),
        "OnMessageSubmission": (stages.Message,),
        "OnArrival": (stages.Message,),
        "OnSyncMessagePreCategorize": (stages.Submitted,),
        "OnMessagePostCategorize": (stages.Expanded,),
    }
)
_LAST: Mapping[str, Any] = {"priority": MAX_PRIORITY, "last": True, "quiet": True}
_COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "hello": 'rule = "ehlo; helo"',
        "auth": 'rule = "auth"',
        "sender": 'rule = "mail from=*"',
        "recipient": 'rule = "rcpt to=*"',
        "data": 'rule = "data"',
        "reply": "a priority above 24576, where the native response is known",
    }
)
"""What to write in the place of a stage that sinks haven't."""
_THERE = ", ".join(_EVENTS)
_LIBRARIES = (".so", ".dll")


@dataclass(slots=True)
class LoadedSink(Loaded):
    """A sink, ready. One in a library has a process from now on: close it, whatever becomes of it."""

    sink: Sink | None = None

    async def open(self, server: ServerView) -> None:
        """Before the first connection. PluginError if the sink can't go on."""
        if self.sink is not None:
            await self.sink.open(server)

    async def close(self) -> None:
        """After the last session; nothing of it is left."""
        if self.sink is not None:
            await self.sink.close()


async def load_sink(
    source: object,
    *,
    name: str | None = None,
    wishes: Sequence[Wish] = (),
    properties: Mapping[str, Any] | None = None,
    options: SinkOptions = USUAL,
    instances: Mapping[str, int] = MappingProxyType({}),
    message_size: int = 0,
    folder: Path | None = None,
    **surroundings: Any,
) -> LoadedSink:
    """The sink at `source`: a library, a .py file, `package.module:Class`, or the class itself.

    `properties` are its SinkProperties; `instances` the virtual servers' numbers by listener; `message_size` the most
    octets of a message that it makes, 0 for no limit; `surroundings` are `load_native`'s. PluginError says what is
    wrong.
    """
    given = dict(properties or {})
    sink: Sink
    if _is_library(source):
        name = name or Path(str(source)).stem
        sink = await load_native(str(source), name=name, options=options, properties=given, **surroundings)
        where = str(source)
    else:
        kind, where = _class_at(source, options.cls, folder)
        name = name or kind.__name__
        _check_class(kind, name, where, options)
        sink = PythonSink(kind, name, given, inline=any(wish.inline for wish in wishes))
    loaded = LoadedSink(name, where, "sink", sink=sink)
    try:
        loaded.bindings += _bound(loaded, sink, wishes, options, instances, message_size)
        if isinstance(sink, PythonSink):
            await sink.load()
    except BaseException:
        await loaded.close()
        raise
    return loaded


def _bound(
    loaded: LoadedSink,
    sink: Sink,
    wishes: Sequence[Wish],
    options: SinkOptions,
    instances: Mapping[str, int],
    message_size: int,
) -> Iterator[Binding]:
    has = {stage for method in sink.methods for stage in _EVENTS.get(method, ())}
    asker = Asker(loaded, sink, instance=options.instance, instances=instances)
    breaker = Breaker()
    hooks = {**outgoing_hooks(asker), **transport_hooks(asker, message_size=message_size)}
    closing = dict(closing_hooks(asker))
    words = {"ehlo_is_helo": options.ehlo_matches_helo}
    for wish in wishes or (Wish(),):
        _check_stages(loaded.name, wish, sink.methods)
        wanted = _wanted(loaded.name, wish, has, sink.methods)
        if not wish.stages:
            wanted -= set(OUT_EVENTS)
        for event in (one for one in stages.STAGES.values() if one in wanted):
            if event is stages.Command:
                yield from inbound.bindings(asker, wish, breaker, ehlo_matches_helo=options.ehlo_matches_helo)
                continue
            stage = ASKED_AT.get(event, event)
            yield make_binding(loaded.name, stage, hooks[event], words, wish, breaker)
            if not wish.shadow and (hook := closing.pop(stage, None)) is not None:
                yield make_binding(loaded.name, stage, hook, _LAST, Wish(), breaker)


def _wanted(name: str, wish: Wish, has: set[Stage], methods: frozenset[str]) -> set[Stage]:
    """The stages that are to be bound. PluginError says which method a stage would call."""
    try:
        return wanted_stages(name, wish, has)
    except PluginError as error:
        known = {stage.name: method for method, events in _EVENTS.items() for stage in events}
        called = " and ".join(dict.fromkeys(known[stage] for stage in wish.stages if stage in known))
        if not called or all(known.get(stage) in methods for stage in wish.stages):
            raise
        raise PluginError(
            f"{error}; {called} is called there, and its methods are {', '.join(sorted(methods))}"
        ) from None


# ── finding ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_library(source: object) -> bool:
    return isinstance(source, str | Path) and str(source).lower().endswith(_LIBRARIES)


def _class_at(source: object, wanted: str, folder: Path | None) -> tuple[type, str]:
    """The sink's class, and where it was found."""
    if inspect.isclass(source):
        return source, source.__name__
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise PluginError(f"{source!r:.80} is no class; a sink is made anew for each event: give {kind}, its class")
    text = str(source)
    path, colon, attribute = text.rpartition(":")
    if colon and path.endswith(".py"):
        text, wanted = path, attribute
    thing, where = find(text, folder)
    if isinstance(thing, ModuleType):
        return _class_in(thing, wanted, where), where
    if inspect.isclass(thing):
        return thing, where
    raise PluginError(f"{where} is no class")


def _class_in(module: ModuleType, wanted: str, where: str) -> type:
    if wanted:
        found = getattr(module, wanted, None)
        if not inspect.isclass(found):
            names = _names(_sinks_in(module))
            close = difflib.get_close_matches(wanted, names, 1)
            there = f'did you mean "{close[0]}"?' if close else f"it has: {', '.join(names) or 'none that is a sink'}"
            raise PluginError(f'{where} has no class "{wanted}"; {there}')
        return found
    sinks = list(_sinks_in(module))
    if len(sinks) == 1:
        return sinks[0]
    if not sinks:
        raise PluginError(f"{where} has no class with an event method; {_meant_in(module) or f'there are {_THERE}'}")
    raise PluginError(
        f"{where} has several sinks: {', '.join(_names(sinks))}; say which: {Path(where).name}:{sinks[0].__name__}, "
        f'or sink = {{ class = "{sinks[0].__name__}" }}'
    )


def _sinks_in(module: ModuleType) -> Iterable[type]:
    return [one for one in _own_classes(module) if methods_of(one) and not inspect.isabstract(one)]


def _own_classes(module: ModuleType) -> list[type]:
    return [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]


def _check_stages(name: str, wish: Wish, methods: frozenset[str]) -> None:
    """PluginError for a stage where an author of other plugins would look for commands."""
    for stage in wish.stages:
        mend = _COMMANDS.get(stage)
        if mend is not None and "OnSmtpInCommand" in methods:
            raise PluginError(
                f'plugin "{name}": a sink isn\'t asked at "{stage}": it is asked about commands; '
                f'write stages = ["command"] and {mend}'
            )


def _check_class(kind: type, name: str, where: str, options: SinkOptions) -> None:
    """PluginError for a class that nobody would ask, or not as its author thinks."""
    wrong = misspelt(kind)
    if wrong is not None:
        raise PluginError(f'plugin "{name}": {where} has {wrong[0]}, which nobody calls; did you mean {wrong[1]}?')
    if not methods_of(kind):
        callback = attribute_of(kind, "OnSmtpInCallback")
        why = f"; an object with {callback} is given to SetCallback, by a sink" if callback else ""
        raise PluginError(f'plugin "{name}": {where} has no event method{why}; a sink has one of {_THERE}')
    if set(METHODS[stages.Message]) <= methods_of(kind):
        both = " and ".join(METHODS[stages.Message])
        raise PluginError(
            f'plugin "{name}": {where} has {both}, which are about the same moment; leave one of them out'
        )
    if options.create == "com":
        raise PluginError(f'plugin "{name}": create = "com" is for Windows libraries; {where} is a class in Python')


def _meant_in(module: ModuleType) -> str:
    """What a module without a sink has instead, for who has written it."""
    for one in _own_classes(module):
        if wrong := misspelt(one):
            return f"{one.__name__} has {wrong[0]}, which nobody calls; did you mean {wrong[1]}?"
    for method in _EVENTS:
        if name := attribute_of(module, method):
            return f"{name} is a function; a sink is a class with such a method"
    return ""


def _names(kinds: Iterable[type]) -> list[str]:
    return [kind.__name__ for kind in kinds]
