"""One call of a sink, whatever it is about: the bags it sees, its HRESULT, and what is shown to whoever debugs it.

S_OK lets the next sink be asked; any other success ends the chain and stands for the house's own handling too; a
failure is the plugin's failure, and goes by its binding's `on_failure`. Contract: Ambiguities, 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gatepost.hooks.events import Event
from gatepost.hooks.session import Session
from gatepost.plugins.loaded import Exchange, Loaded
from gatepost.plugins.sink.constants import ServerProperty, is_failure
from gatepost.plugins.sink.properties import dword, string
from gatepost.plugins.sink.showing import shown_call, shown_fields, shown_hresult, shown_return
from gatepost.plugins.sink.states import Bag, Call, Context, Message, Sink

_SESSION_BAG = "a sink's session"
_SERVER_BAG = "a sink's server"


class SinkFailed(RuntimeError):
    """The sink's HRESULT is an error."""


class Asker:
    """Asks one sink. `instances`: the virtual servers' numbers, by listener."""

    def __init__(
        self,
        loaded: Loaded,
        sink: Sink,
        *,
        instance: int = 0,
        instances: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.loaded = loaded
        self.sink = sink
        self._instance = instance
        self._instances = instances

    async def ask(self, method: str, event: Event, context: Context, message: Message | None) -> int:
        """The HRESULT, a success; what the sink changed is in `context` and `message`. SinkFailed, or what `Sink.call`
        raises.
        """
        instance = self._instance or self._instances.get(event.session.listener, 1)
        whose = self if event.turn.is_shadow else None
        call = Call(server_bag(event, instance, whose), session_bag(event.session, whose), message, context, instance)
        hear = self.loaded.on_exchange
        passed = {} if hear is None else shown_fields(context)
        try:
            hresult = await self.sink.call(method, event, call)
        except Exception as error:
            if hear is not None:
                hear(Exchange(self.loaded.name, event.name, shown_call(method, passed), f"nothing: {error}"))
            raise
        if hear is not None:
            returned = shown_return(hresult, passed, shown_fields(context))
            hear(Exchange(self.loaded.name, event.name, shown_call(method, passed), returned))
        if is_failure(hresult):
            raise SinkFailed(f"{method} returned {shown_hresult(hresult)}")
        return hresult


def session_bag(session: Session, whose: object = None) -> Bag:
    """The connection's properties, shared by all its sinks; a shadow (`whose`) has its own."""
    try:
        return session.holder.get(_SESSION_BAG if whose is None else (_SESSION_BAG, whose), Bag)
    except LookupError:  # a shadow, asked when the session is over
        return {}


def server_bag(event: Event, instance: int, whose: object = None) -> Bag:
    """The virtual server's properties, shared by all its sinks in this worker; a shadow (`whose`) has its own."""
    server = event.server

    def made() -> Bag:
        return {
            ServerProperty.INSTANCE: dword(instance),
            ServerProperty.DEFAULTDOMAIN: string(server.hostname),
        }

    return server.holder.get((_SERVER_BAG, instance, whose), made)
