"""Transport sinks as plain functions, on a real server: each gets the message that Python sinks are given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatepost.delivery import Maildir
from gatepost.delivery.submission import Submission
from gatepost.hooks import stages
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.session import ServerView
from gatepost.plugins.loaded import Loaded, Wish, bind_stages, make_binding
from gatepost.plugins.sink.asking import Asker
from gatepost.plugins.sink.constants import S_OK, unsigned
from gatepost.plugins.sink.mailmsg import Seal, wrap
from gatepost.plugins.sink.message import message_of
from gatepost.plugins.sink.message_changes import apply
from gatepost.plugins.sink.states import Call
from gatepost.plugins.sink.transport import transport_hooks
from gatepost.serving.patience import SystemClock
from gatepost.testing.rig import Rig
from unit.delivery.delivery_plugins import NoHouse, Plugins
from unit.delivery.test_delivery_runner import House, running

CONTENT = b"From: Eve <eve@example.net>\r\nTo: ann@example.org\r\nSubject: hello\r\n\r\nhi\r\n.dot\r\n"


class Functions:
    """A sink whose methods are functions of the message; they answer an HRESULT, or nothing for S_OK."""

    def __init__(self, **methods: Callable[[Any], int | None]) -> None:
        self._functions = methods
        self.methods = frozenset(methods)
        self.given: list[Any] = []

    async def call(self, method: str, event: stages.Event, call: Call) -> int:
        assert call.message is not None
        seal = Seal()
        try:
            message = wrap(call.message, seal)
            self.given.append(message)
            return unsigned(self._functions[method](message) or S_OK)
        finally:
            seal.close()

    async def open(self, server: Any) -> None: ...

    async def close(self) -> None: ...


def sink(name: str = "sink", *, wish: Wish | None = None, message_size: int = 0, **methods: Any) -> Loaded:
    """A plugin of functions, by the names of the event methods."""
    loaded = Loaded(name, name, "sink")
    asker = Asker(loaded, Functions(**methods))
    hooks = transport_hooks(asker, message_size=message_size)
    bind_stages(loaded, hooks, [wish or Wish()], words={"priority": 24575})
    return loaded


def submission(function: Callable[[Any], int | None], **how: Any) -> Loaded:
    """A sink of OnMessageSubmission alone."""
    return sink(OnMessageSubmission=function, **how)


def at(stage: type[stages.Event], function: Callable[[Any, Any], Any], *, put: bool = True) -> Loaded:
    """A hook at any stage that is given the message and the event, as protocol sinks are."""

    def hook(event: Any) -> Any:
        message = message_of(event)
        seal = Seal()
        answer = function(wrap(message, seal), event)
        seal.close()
        if put:
            apply(event, message)
        return answer

    loaded = Loaded("looker", "looker", "sink")
    loaded.bindings.append(make_binding("looker", stage, hook, {"priority": 24575}, Wish(), None))  # type: ignore[arg-type]
    return loaded


@dataclass
class Delivered:
    """Copies in maildrops by address, why what is left is held, and the record."""

    copies: dict[str, bytes]
    held: list[str | None]
    records: Any


class Story:
    """What was said, and what is in the spool."""

    def __init__(self) -> None:
        self.replies: list[str] = []
        self.entries: list[Any] = []
        self.errors: list[str] = []
        self.rig: Any = None

    @property
    def last(self) -> str:
        return self.replies[-1]

    def of(self, address: str) -> bytes | None:
        """The content that this recipient gets."""
        for entry in self.entries:
            if address in {one.address for one in entry.envelope.recipients}:
                return entry.content.read()
        return None

    @property
    def addresses(self) -> list[str]:
        return [one.address for entry in self.entries for one in entry.envelope.recipients]


async def afterwards(plugin: Loaded, spool: Any) -> Delivered:
    """What is in the spool is delivered, `plugin` being bound after the 250; the spool is closed."""
    plugins = Plugins()
    clock = SystemClock()
    plugins.dispatcher = Dispatcher(
        plugin.bindings,
        server=ServerView("mx.test", clock),
        house=NoHouse(),
        clock=clock,
        patience=plugins.patience,
        recorder=plugins.records,
        budget=lambda stage: 5.0,
    )
    submission = Submission(lambda: plugins.dispatcher, patience=plugins.patience, recorder=plugins.records)
    house = House(spool, submission=submission)
    house.now = clock.unix()[0] + 1
    house.route("*", Maildir())
    async with running(house):
        while any(entry.held is None for entry in await spool.entries()) and not plugins.records.errors:
            await asyncio.sleep(0)
        held = [entry.held for entry in await spool.entries()]
    await spool.close()
    return Delivered({address: content for _, address, content in house.drop.copies}, held, plugins.records)


async def story(
    *plugins: Loaded,
    to: tuple[str, ...] = ("<ann@example.org>",),
    content: bytes = CONTENT,
    sender: str = "<eve@example.net>",
    hello: str = "EHLO",
    **how: Any,
) -> Story:
    """One message through a server with these plugins."""
    told = Story()
    async with Rig(plugins, **how) as rig:
        client = rig.connect()
        await client.reply()
        lines = [f"{hello} client.example", f"MAIL FROM:{sender}", *(f"RCPT TO:{one}" for one in to), "DATA"]
        for line in lines:
            told.replies.append(await client.command(line))
        if told.last.startswith("354"):
            told.replies.append(await client.content(content))
            for _ in to[1:] if hello == "LHLO" else ():
                told.replies.append(await client.reply())
        told.entries = sorted(await rig.spool.entries(), key=lambda entry: entry.part)
        told.errors = [f"{type(error).__name__}: {error}" for _, _, error in rig.records.errors]
        told.rig = rig
    return told
