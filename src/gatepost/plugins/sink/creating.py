"""A sink in Python: its objects made as COM would make them, and called as the dispatcher of events calls them.

An object is created by its class, asked whether it is cacheable, given its properties, and only then told the event; it
is used once, unless it said it is cacheable. All of that happens in one of the plugin's threads, but for an `async`
method, which runs in the loop. Contract: Object model.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from gatepost.hooks.events import Event
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.sink import contexts
from gatepost.plugins.sink.cdo import CdoMessage, EventStatus, outcome
from gatepost.plugins.sink.constants import (
    INTERFACES,
    MAILTRANSPORT_S_PENDING,
    S_FALSE,
    S_OK,
    is_failure,
    unsigned,
)
from gatepost.plugins.sink.mailmsg import wrap
from gatepost.plugins.sink.mailmsg_bag import BadArgument, MailMsgLoggingPropertyBag, Seal
from gatepost.plugins.sink.states import (
    Call,
    InCallback,
    InCommand,
    OutCommand,
    ServerResponse,
)
from gatepost.plugins.threads import Threads

_CONTEXTS: Mapping[type, Callable[[Any, Seal, contexts.Complete], object]] = {
    InCommand: contexts.SmtpInCommandContext,
    InCallback: contexts.SmtpInCallbackContext,
    OutCommand: contexts.SmtpOutCommandContext,
    ServerResponse: contexts.SmtpServerResponseContext,
}
_TRANSPORT = frozenset({"OnMessageSubmission", "OnSyncMessagePreCategorize", "OnMessagePostCategorize"})
_CACHEABLE = ("IsCacheable", "is_cacheable")
_LOAD = ("Load", "load")
_FACTORY = ("CreateInstance", "create_instance")


class PropertyBag(dict[str, Any]):
    """IPropertyBag: the binding's sink properties, by name; a mapping too."""

    def read(self, name: str) -> Any:
        """The property of that name, without regard to case. BadArgument where there is none."""
        for known, value in self.items():
            if known.lower() == name.lower():
                return value
        raise BadArgument(f'there is no sink property "{name}"')

    def write(self, name: str, value: Any) -> None:
        """Set one, as long as the object lives; the binding's own stay."""
        self[name] = value

    Read = read
    Write = write


def spelled(name: str) -> tuple[str, str]:
    """A method's name as the interface has it, and as Python would spell it."""
    return name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def methods_of(kind: type) -> frozenset[str]:
    """The event methods that a class has, by their names in the interfaces."""
    return frozenset(name for name in INTERFACES if _found(kind, spelled(name)) is not None)


class PythonSink:
    """states.Sink, for a class. Invariant: at most one object is kept, and only if it said it is cacheable."""

    def __init__(self, kind: type, name: str, properties: Mapping[str, Any], *, inline: bool = False) -> None:
        """`inline`: run plain methods in the loop instead of in threads."""
        self.methods = methods_of(kind)
        self._kind = kind
        self._name = name
        self._properties = dict(properties)
        self._inline = inline
        self._threads = Threads(name)
        self._kept: Any = None
        if properties and _found(kind, _LOAD) is None:
            raise PluginError(f'plugin "{name}": {kind.__name__} has no Load, so that properties would reach nobody')

    async def open(self, server: Any) -> None:
        """Before the first connection. Nothing is made yet."""

    async def close(self) -> None:
        """After the last session."""
        self._kept = None
        self._threads.close()

    async def call(self, method: str, event: Event, call: Call) -> int:
        """As `states.Sink` says. Whatever the sink raises goes on."""
        seal = Seal()
        completion = _Completion(asyncio.get_running_loop())
        try:
            target = self._target(method, call)
            arguments = self._arguments(method, call, seal, completion)
            if inspect.iscoroutinefunction(target):
                returned = await self._bound(target, method)(*arguments)
            elif self._inline:
                returned = self._bound(target, method)(*arguments)
            else:
                returned = await self._threads.run(lambda given: self._bound(target, method)(*given), arguments)
            hresult = _hresult(method, returned, arguments)
            if hresult == MAILTRANSPORT_S_PENDING or (hresult == S_FALSE and method in _TRANSPORT):
                hresult = await completion.wait()
            return hresult
        finally:
            seal.close()

    def _target(self, method: str, call: Call) -> Callable[..., Any]:
        """What is called: a method of the class, or of the object that takes the lines that follow."""
        owner: Any = self._kind
        if method == "OnSmtpInCallback":
            owner = call.context.callback if isinstance(call.context, InCallback) else None
        found = _found(owner, spelled(method))
        if found is None:
            raise TypeError(f"{owner!r:.80} has no {method}")
        return found

    def _bound(self, target: Callable[..., Any], method: str) -> Callable[..., Any]:
        """The method as it is called: of an object made for this event, or of whoever takes the lines that follow."""
        if method == "OnSmtpInCallback":
            return target
        bound: Callable[..., Any] = getattr(self._object(), target.__name__)
        return bound

    def _object(self) -> Any:
        if self._kept is not None:
            return self._kept
        factory = _found(self._kind, _FACTORY)
        made = self._kind() if factory is None else factory()
        is_cacheable = _found(made, _CACHEABLE)
        keeps = is_cacheable is not None and _says_yes(is_cacheable())
        load = _found(made, _LOAD)
        if load is not None:
            load(PropertyBag(self._properties))
        if keeps:
            self._kept = made
        return made

    def _arguments(self, method: str, call: Call, seal: Seal, completion: _Completion) -> tuple[Any, ...]:
        message = None if call.message is None else wrap(call.message, seal)
        if method == "OnArrival":
            assert message is not None
            return CdoMessage(message), EventStatus()
        if method in _TRANSPORT:
            return message, contexts.MailTransportNotify(seal, completion.tell), None
        context = _CONTEXTS[type(call.context)](call.context, seal, completion.tell)
        return (
            MailMsgLoggingPropertyBag(call.server, seal),
            MailMsgLoggingPropertyBag(call.session, seal),
            message,
            context,
        )


def _hresult(method: str, returned: Any, arguments: tuple[Any, ...]) -> int:
    """What a sink returned, as an HRESULT. TypeError for what isn't one."""
    if method == "OnArrival":
        return outcome(returned, arguments[1])
    if returned is None:
        return S_OK
    if isinstance(returned, bool) or not isinstance(returned, int):
        raise TypeError(f"{method} returned {returned!r:.80}; a sink returns an HRESULT: S_OK, S_FALSE …, or None")
    return unsigned(returned)


class _Completion:
    """The result of a call that was left pending. It may come from any thread, and before it is waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._result: asyncio.Future[int] = loop.create_future()

    def tell(self, hresult: int) -> None:
        """From any thread, once."""
        self._loop.call_soon_threadsafe(self._set, hresult)

    async def wait(self) -> int:
        return await self._result

    def _set(self, hresult: int) -> None:
        if not self._result.done():
            self._result.set_result(hresult)


def _found(owner: Any, names: tuple[str, ...]) -> Callable[..., Any] | None:
    for name in names:
        found = getattr(owner, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]  # whatever a plugin has there
    return None


def _says_yes(answer: Any) -> bool:
    """What IsCacheable returned: S_OK and True are yes, as is nothing at all."""
    if isinstance(answer, bool):
        return answer
    return answer is None or (isinstance(answer, int) and not is_failure(answer) and answer == S_OK)
