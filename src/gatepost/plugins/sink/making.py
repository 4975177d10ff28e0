"""The objects of a sink class in Python, made as COM would make them. Contract: Object model, calling sequence.

An object is created by its class (or the class's CreateInstance), asked whether it is cacheable, and given the
binding's properties. The first one is made when the plugin is loaded, so that whoever has written the class hears at
once what is wrong with it; it is then the object of the first event.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from gatepost.plugins.loaded import PluginError
from gatepost.plugins.sink.constants import S_OK
from gatepost.plugins.sink.mailmsg_bag import BadArgument
from gatepost.plugins.sink.spelling import ARGUMENTS, attribute_of, method_of


class PropertyBag(dict[str, Any]):
    """IPropertyBag: the binding's sink properties, by name; a mapping too."""

    def read(self, name: str) -> Any:
        """The property of that name, without regard to case. BadArgument where there is none."""
        for known, value in self.items():
            if known.lower() == name.lower():
                return value
        there = ", ".join(self) or "none"
        raise BadArgument(f'there is no sink property "{name}"; there are: {there}')

    def write(self, name: str, value: Any) -> None:
        """Set one, as long as the object lives; the binding's own stay."""
        self[name] = value

    Read = read
    Write = write


class Maker:
    """Invariant: at most one object is kept for more than one event, and only if it said it is cacheable."""

    def __init__(self, kind: type, name: str, properties: Mapping[str, Any]) -> None:
        """PluginError if the properties would reach nobody."""
        self._kind = kind
        self._name = name
        self._properties = dict(properties)
        self._kept: Any = None
        self._first: list[Any] = []
        if properties and not attribute_of(kind, "Load"):
            raise self._wrong("has no Load, so that properties would reach nobody; leave them out")

    def load(self, methods: frozenset[str]) -> None:
        """Make the object of the first event. PluginError, saying which step went wrong and what to do."""
        if inspect.isabstract(self._kind):
            missing = ", ".join(sorted(getattr(self._kind, "__abstractmethods__", ())))
            raise self._wrong(f"is abstract: it lacks {missing}")
        steps: list[str] = []
        try:
            made = self._make(steps)
        except Exception as error:
            raise self._wrong(_failed(steps[-1], error)) from error
        for method in sorted(methods):
            self._check(made, method)
        if self._kept is None:
            self._first.append(made)

    def object(self) -> Any:
        """The object for an event. Raises what making it raises."""
        if self._kept is not None:
            return self._kept
        try:
            return self._first.pop()
        except IndexError:
            return self._make([])

    def drop(self) -> None:
        """No object is kept any more."""
        self._kept = None
        self._first.clear()

    def _make(self, steps: list[str]) -> Any:
        steps.append("CreateInstance")
        factory = method_of(self._kind, "CreateInstance")
        made = self._kind() if factory is None else factory()
        steps.append("IsCacheable")
        is_cacheable = method_of(made, "IsCacheable")
        keeps = is_cacheable is not None and _says_yes(is_cacheable())
        steps.append("Load")
        if (load := method_of(made, "Load")) is not None:
            loading = load(PropertyBag(self._properties))
            if inspect.iscoroutine(loading):
                loading.close()
                raise TypeError("it is async; only an event method may be")
        if keeps:
            self._kept = made
        return made

    def _check(self, made: Any, method: str) -> None:
        """Whether the method can be called as it will be."""
        found = method_of(made, method)
        if found is None:
            raise self._wrong(f"makes {type(made).__name__} objects, which have no {method}")
        try:
            signature = inspect.signature(found)
        except (TypeError, ValueError):  # of C: it can't be asked
            return
        wanted = ARGUMENTS[method]
        try:
            signature.bind(*wanted)
        except TypeError:
            raise self._wrong(f"has {method}{signature}, which is called with ({', '.join(wanted)})") from None

    def _wrong(self, what: str) -> PluginError:
        return PluginError(f'plugin "{self._name}": {self._kind.__name__} {what}')


def _failed(step: str, error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"
    if step == "CreateInstance":
        return f"can't be made, as {said}; it is called without arguments, and gets its properties by Load"
    return f"fails in {step}: {said}"


def _says_yes(answer: Any) -> bool:
    """What IsCacheable returned: S_OK and True are yes, as is nothing at all. TypeError for what is no answer."""
    if isinstance(answer, bool):
        return answer
    if answer is not None and not isinstance(answer, int):
        raise TypeError(f"it returned {answer!r:.80}; S_OK or True for yes, S_FALSE or False for no")
    return answer is None or answer == S_OK
