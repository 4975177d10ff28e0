"""Sinks on the sending side, bound as the loader binds them, with a next server on loopback."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.bindings import DEFAULT_PRIORITY, MAX_PRIORITY, Binding, OnFailure
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.session import ServerView
from gatepost.plugins.loaded import Loaded
from gatepost.plugins.sink.asking import Asker
from gatepost.plugins.sink.outbound import ASKED_AT, closing_hooks, outgoing_hooks
from gatepost.plugins.sink.states import Call
from gatepost.serving.patience import SystemClock
from unit.delivery.delivery_peer import Peer, polite
from unit.delivery.delivery_plugins import ANN, NoHouse, Plugins, letter, send

Say = Callable[[Any, Call], Any]


class FakeSink:
    """A sink of one function, which changes the context and returns the HRESULT, perhaps later; None is S_OK."""

    def __init__(self, say: Say, method: str) -> None:
        self.say = say
        self.methods = frozenset({method})
        self.method = method

    async def call(self, method: str, event: stages.Event, call: Call) -> int:
        assert method == self.method
        said = self.say(call.context, call)
        return (await said if isawaitable(said) else said) or 0

    async def open(self, server: Any) -> None: ...

    async def close(self) -> None: ...


def sink(
    event: type[stages.Event],
    say: Say,
    *,
    priority: int = DEFAULT_PRIORITY,
    on_failure: OnFailure | None = None,
    name: str = "sink",
    shadow: bool = False,
) -> list[Binding]:
    """The bindings of a sink at one event."""
    method = "OnSmtpServerResponse" if event is stages.OutReply else "OnSmtpOutCommand"
    asker = Asker(Loaded(name, "here", "sink"), FakeSink(say, method))
    stage = ASKED_AT[event]
    hook = outgoing_hooks(asker)[event]
    close = closing_hooks(asker)[stage]
    return [
        Binding(name, stage, hook, priority=priority, on_failure=on_failure, shadow=shadow),
        Binding(name, stage, close, priority=MAX_PRIORITY, last=True, on_failure=on_failure, shadow=shadow),
    ]


class Sinks(Plugins):
    """What a worker has, of bindings that are there already."""

    def bind(self, *bound: Any) -> None:
        clock = SystemClock()
        self.dispatcher = Dispatcher(
            [binding for bindings in bound for binding in bindings],
            server=ServerView("me.example", clock),
            house=NoHouse(),
            clock=clock,
            patience=self.patience,
            recorder=self.records,
            budget=lambda stage: self._budget_s,
        )


async def sent(*bound: list[Binding], script=None, what=None):
    """A message to Ann, and what the next server heard."""
    plugins = Sinks(*bound)
    async with Peer(script or polite()) as peer:
        return await send(plugins, peer, what or letter(ANN))
