"""Finds a Python plugin, collects its marks in the order they were written, checks everything, and makes bindings.

What can't work is refused here, by name, with the way to mend it; so nothing is left to fail in front of a sender but
the plugin's own code.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import msgspec

from gatepost.hooks.api import MARK, PREPARE, Mark, Plugin
from gatepost.hooks.breaker import Breaker
from gatepost.hooks.notices import Notice
from gatepost.hooks.session import ServerView
from gatepost.plugins.finding import find
from gatepost.plugins.loaded import Loaded, PluginError, Wish, make_binding, wanted_stages
from gatepost.plugins.threads import Threads

_MARK_IT = 'put @on("message") or another stage on a function'
_BIND_IT = 'it is an event sink: dialect = "sink" in [[plugin]], --dialect sink to try it, or gatepost binding add'
_SINK_METHODS = {
    *("OnSmtpInCommand", "OnSmtpOutCommand", "OnSmtpServerResponse", "OnMessageSubmission", "OnArrival"),
    *("OnSyncMessagePreCategorize", "OnMessagePostCategorize"),
}


@dataclass(slots=True)
class InProcess(Loaded):
    """A plugin that runs here."""

    instances: list[Plugin[Any]] = field(default_factory=list)
    threads: Threads | None = None

    async def open(self, server: ServerView) -> None:
        """Before the first connection; PluginError if the plugin can't open."""
        for instance in self.instances:
            try:
                await instance.open(server)
            except Exception as error:
                raise PluginError(f'plugin "{self.name}" couldn\'t open: {type(error).__name__}: {error}') from error

    async def close(self) -> None:
        """After the last session. An error goes on to the caller, after everything was closed."""
        errors: list[Exception] = []
        for instance in self.instances:
            try:
                await instance.close()
            except Exception as error:  # noqa: BLE001  the others are closed too
                errors.append(error)
        if self.threads is not None:
            self.threads.close()
        if errors:
            raise ExceptionGroup(f"plugin {self.name} couldn't be closed", errors)


def load(
    source: object,
    *,
    name: str | None = None,
    properties: Mapping[str, Any] | None = None,
    wishes: Sequence[Wish] = (),
    folder: Path | None = None,
) -> InProcess:
    """The plugin at `source`: a file, `package.module:attribute`, an entry point's name, or the object itself.

    Several `wishes` bind it several times. PluginError says what is wrong.
    """
    loaded, hooks = collect(source, name=name, properties=properties, folder=folder)
    bind(loaded, hooks, wishes)
    return loaded


def collect(
    source: object,
    *,
    name: str | None = None,
    properties: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> tuple[InProcess, list[Hook]]:
    """The plugin at `source` and its marked functions, in the order they were written; nothing is bound yet."""
    if isinstance(source, str | Path):
        thing, where = find(source, folder)
    else:
        thing, where = source, _name_of(source, repr(source))
    loaded = InProcess(name or _name_of(thing, where), where)
    given = dict(properties or {})
    found = list(_hooks(thing, loaded, given))
    if not found:
        mend = _BIND_IT if _is_sink(thing) else _MARK_IT
        raise PluginError(f'plugin "{loaded.name}": {where} marks nothing; {mend}')
    if given and all(hook.properties is None for hook in found):
        for hook in found:
            hook.properties = MappingProxyType(given)
    return loaded, found


def bind(loaded: Loaded, hooks: list[Hook], wishes: Sequence[Wish] = (), breaker: Breaker | None = None) -> None:
    """Bind what was collected, once for each wish. `breaker` is the plugin's, where it is bound in several calls."""
    threads = Threads(loaded.name)
    breaker = breaker or Breaker()
    for wish in wishes or (Wish(),):
        _bind(loaded, hooks, wish, threads, breaker)


@dataclass(slots=True)
class Hook:
    """A function with its marks, and its plugin's properties."""

    function: Callable[..., Any]
    marks: list[Mark]
    properties: Any = None


def _bind(loaded: Loaded, found: list[Hook], wish: Wish, threads: Threads, breaker: Breaker) -> None:
    if not loaded.told:  # once, however often the plugin is bound
        loaded.told += [
            (mark.stage, _asked(hook, mark, wish, threads, loaded))
            for hook in found
            for mark in hook.marks
            if issubclass(mark.stage, Notice)
        ]
    marked = [(hook, mark, mark.stage) for hook in found for mark in hook.marks if not issubclass(mark.stage, Notice)]
    wanted = wanted_stages(loaded.name, wish, [stage for _, _, stage in marked])
    for hook, mark, stage in marked:
        if stage in wanted:
            prepare = getattr(hook.function, PREPARE, None)
            loaded.bindings.append(
                make_binding(
                    loaded.name,
                    stage,
                    _asked(hook, mark, wish, threads, loaded),
                    mark.words,
                    wish,
                    breaker,
                    properties=hook.properties,
                    prepare=None if prepare is None else bound_like(hook.function, prepare),
                )
            )


def _asked(hook: Hook, mark: Mark, wish: Wish, threads: Threads, loaded: Loaded) -> Callable[[Any], Any]:
    """The hook as it is called in the loop: a plain function runs in a thread, unless it is to run inline."""
    function = hook.function
    inline = mark.words.get("inline", False) if wish.inline is None else wish.inline
    if inspect.iscoroutinefunction(function) or inline:
        return function
    if isinstance(loaded, InProcess):
        loaded.threads = threads

    async def asked(subject: Any) -> Any:
        found = await threads.run(function, subject)
        return await found if inspect.isawaitable(found) else found  # it only wraps an async function

    return asked


def bound_like(method: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a method of whatever `method` belongs to, if to anything."""
    owner = getattr(method, "__self__", None)
    if owner is None:
        return function
    bound: Callable[..., Any] = function.__get__(owner)
    return bound


def _name_of(thing: object, where: str) -> str:
    if isinstance(thing, ModuleType):
        return Path(thing.__file__ or where).stem
    found = getattr(thing, "name", None) or getattr(thing, "__name__", None)
    return found if isinstance(found, str) else type(thing).__name__


# ── collecting ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _hooks(thing: object, loaded: InProcess, given: dict[str, Any]) -> Iterator[Hook]:
    if isinstance(thing, ModuleType):
        for value in _written_in(thing):
            yield from _hooks(value, loaded, given)
        return
    if inspect.isclass(thing):
        thing = _instance(thing, loaded, given)
    if (marks := _marks(thing)) is not None:
        yield Hook(thing, list(marks))  # type: ignore[arg-type]  # only functions are marked
        return
    if inspect.isroutine(thing):
        return
    if isinstance(thing, Plugin):
        if getattr(thing, "properties", None) is None:
            thing.properties = _properties(type(thing), loaded, given)
        if not getattr(thing, "name", None):
            thing.name = loaded.name
        loaded.instances.append(thing)
    for attribute in _written_order(type(thing)):
        written = inspect.getattr_static(type(thing), attribute)
        if (marks := _marks(getattr(written, "__func__", written))) is not None:
            yield Hook(getattr(thing, attribute), list(marks), getattr(thing, "properties", None))


def _is_sink(thing: object) -> bool:
    """Whether there is a class with an event method of Microsoft's sinks."""
    things = vars(thing).values() if isinstance(thing, ModuleType) else [thing]
    kinds = [one if inspect.isclass(one) else type(one) for one in things]
    return any(not _SINK_METHODS.isdisjoint(dir(kind)) for kind in kinds)


def _marks(thing: object) -> Sequence[Mark] | None:
    """What stands on it, found without running any code of the plugin's: looking mustn't break what it looks at."""
    function = thing.__func__ if inspect.ismethod(thing) else thing
    marks: Sequence[Mark] | None = inspect.getattr_static(function, MARK, None)
    return marks


def _written_in(module: ModuleType) -> list[object]:
    """What the module itself defines, each thing once: a class is left to its own instances and subclasses in there."""
    own = {id(value): value for value in vars(module).values() if _is_of(value, module)}
    kinds = [value for value in own.values() if inspect.isclass(value)]
    made = [type(value) for value in own.values() if not inspect.isclass(value)]

    def is_plugin(kind: type) -> bool:
        others = [*made, *(other for other in kinds if other is not kind)]
        return issubclass(kind, Plugin) and not any(issubclass(other, kind) for other in others)

    return [value for value in own.values() if not inspect.isclass(value) or is_plugin(value)]


def _is_of(value: object, module: ModuleType) -> bool:
    try:
        return getattr(value, "__module__", None) == module.__name__
    except Exception:  # noqa: BLE001  an object may answer anything, a proxy with nothing behind it above all
        return False


def _written_order(kind: type) -> list[str]:
    """Method names in the order they were written, a base class's first."""
    seen: dict[str, None] = {}
    for base in reversed(kind.__mro__):
        seen |= dict.fromkeys(vars(base))
    return [attribute for attribute in seen if not attribute.startswith("__")]


def _instance(kind: type, loaded: Loaded, given: dict[str, Any]) -> object:
    try:
        instance = kind()
    except TypeError as error:
        raise PluginError(f"{kind.__name__} can't be made without arguments: {error}") from error
    return instance


def _properties(kind: type[Plugin[Any]], loaded: Loaded, given: dict[str, Any]) -> Any:
    wanted = kind.properties_type
    if wanted is None or wanted is type(None):
        return MappingProxyType(given)
    if dataclasses.is_dataclass(wanted):
        known = [one.name for one in dataclasses.fields(wanted)]
        for key in given:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                meant = f'; did you mean "{close[0]}"?' if close else f"; there are: {', '.join(known)}"
                raise PluginError(f'plugin "{loaded.name}" has no property "{key}"{meant}')
    try:
        return msgspec.convert(given, wanted)
    except msgspec.ValidationError as error:
        said = str(error).replace("`$.", "`properties.").replace("`", '"')
        raise PluginError(f'plugin "{loaded.name}": {said}') from error
