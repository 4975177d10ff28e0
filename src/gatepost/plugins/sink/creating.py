"""A sink in Python, called as the dispatcher of events calls it: in one of the plugin's threads, where its object is
made too, but for an `async` method, which runs in the loop. Contract: Object model.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gatepost.hooks.events import Event
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.sink import contexts
from gatepost.plugins.sink.cdo import CdoMessage, EventStatus, outcome
from gatepost.plugins.sink.constants import MAILTRANSPORT_S_PENDING, S_FALSE, S_OK, unsigned
from gatepost.plugins.sink.mailmsg import wrap
from gatepost.plugins.sink.mailmsg_bag import MailMsgLoggingPropertyBag, Seal
from gatepost.plugins.sink.making import Maker, PropertyBag
from gatepost.plugins.sink.spelling import attribute_of, methods_of
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
_CALLBACK = "OnSmtpInCallback"
_LOAD_S = 30.0  # seconds in which the first object must be there


class PythonSink:
    """states.Sink, for a class."""

    def __init__(self, kind: type, name: str, properties: Mapping[str, Any], *, inline: bool = False) -> None:
        """`inline`: run plain methods in the loop instead of in threads. PluginError."""
        self.methods = methods_of(kind)
        self._name = name
        self._maker = Maker(kind, name, properties)
        self._inline = inline
        self._threads = Threads(name)
        self._attributes = {method: attribute_of(kind, method) for method in self.methods}
        self._async = {
            method
            for method, attribute in self._attributes.items()
            if inspect.iscoroutinefunction(getattr(kind, attribute))
        }

    async def load(self) -> None:
        """Make the object of the first event, as a test of the class. PluginError."""
        if self._inline:
            self._maker.load(self.methods)
            return
        try:
            async with asyncio.timeout(_LOAD_S):
                await self._threads.run(self._maker.load, self.methods)
        except TimeoutError:
            raise PluginError(f'plugin "{self._name}": its first object isn\'t there after {_LOAD_S:.0f} s') from None

    async def open(self, server: Any) -> None:
        """Before the first connection. There is nothing to do."""

    async def close(self) -> None:
        """After the last session."""
        self._maker.drop()
        self._threads.close()

    async def call(self, method: str, event: Event, call: Call) -> int:
        """As `states.Sink` says. Whatever the sink raises goes on."""
        seal = Seal()
        completion = _Completion()
        try:
            arguments = _arguments(method, call, seal, completion)
            if method == _CALLBACK:
                returned = await self._run(_callback, (call.context, arguments))
            elif method in self._async:
                returned = await getattr(self._maker.object(), self._attributes[method])(*arguments)
            else:
                returned = await self._run(self._event, (self._attributes[method], arguments))
            if returned is not None and inspect.isawaitable(returned):
                returned = await returned
            hresult = _hresult(method, returned, arguments)
            if hresult == MAILTRANSPORT_S_PENDING or (hresult == S_FALSE and method in _TRANSPORT):
                hresult = await completion.wait()
            return hresult
        finally:
            seal.close()

    async def _run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        return function(argument) if self._inline else await self._threads.run(function, argument)

    def _event(self, how: tuple[str, tuple[Any, ...]]) -> Any:
        attribute, arguments = how
        return getattr(self._maker.object(), attribute)(*arguments)


def _callback(how: tuple[InCallback, tuple[Any, ...]]) -> Any:
    state, arguments = how
    owner = state.callback
    attribute = attribute_of(owner, _CALLBACK)
    if not attribute:
        raise TypeError(f"{owner!r:.80} has no {_CALLBACK}")
    return getattr(owner, attribute)(*arguments)


def _arguments(method: str, call: Call, seal: Seal, completion: _Completion) -> tuple[Any, ...]:
    message = None if call.message is None else wrap(call.message, seal)
    if method == "OnArrival":
        assert message is not None
        return CdoMessage(message), EventStatus()
    if method in _TRANSPORT:
        return message, contexts.MailTransportNotify(seal, completion.tell), None
    return (
        MailMsgLoggingPropertyBag(call.server, seal),
        MailMsgLoggingPropertyBag(call.session, seal),
        message,
        _CONTEXTS[type(call.context)](call.context, seal, completion.tell),
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

    __slots__ = ("_loop", "_result", "_waiting")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._result: int | None = None
        self._waiting: asyncio.Future[int] | None = None

    def tell(self, hresult: int) -> None:
        """From any thread; only the first counts."""
        self._loop.call_soon_threadsafe(self._set, hresult)

    async def wait(self) -> int:
        """In the loop."""
        if self._result is None:
            self._waiting = self._loop.create_future()
            return await self._waiting
        return self._result

    def _set(self, hresult: int) -> None:
        if self._result is None:
            self._result = hresult
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(hresult)


__all__ = ["PropertyBag", "PythonSink", "methods_of"]
