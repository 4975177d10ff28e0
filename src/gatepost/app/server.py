"""`Server`: a mail server inside an application or its tests.

It has no state outside itself: several can run in one process, on port 0, in memory or with a data folder. Hooks are
added before it starts; what they raise reaches the sender as 451 and the application as an ExceptionGroup.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

from gatepost.admin.telling import Explanation, explain
from gatepost.app.inbox import Inbox, Received
from gatepost.app.messages import Content
from gatepost.app.sending import Hear, Sending, Sent
from gatepost.app.settings import Settings
from gatepost.app.settings import load as load_settings
from gatepost.app.worker import Bound, Worker
from gatepost.hooks import stages
from gatepost.hooks.api import BindingWords, On
from gatepost.hooks.verdicts import Answer, Refuse, Respond, Take
from gatepost.model import Reply, Ticket, TokenError
from gatepost.plugins.loaded import Loaded, Wish, seconds
from gatepost.plugins.python import load
from gatepost.wire.smtp.states import Verb

H = TypeVar("H", bound=Callable[..., Any])
T = TypeVar("T")
Receiver = Callable[[Received], Awaitable[None] | None]


class Server:
    """A server that an application starts and stops: `async with server:`, or `with server.in_thread() as s:`.

    `settings` may be Settings, a file, or a listener's address; every settings key can be given by name and wins over
    the file. Without a file nothing is written to disk unless `data` says so, and every recipient is accepted unless
    routes or hooks say otherwise. SettingsError, PluginError or OSError at the start, never later.
    """

    def __init__(
        self,
        settings: Settings | str | os.PathLike[str] | None = None,
        /,
        *,
        plugins: Sequence[object] = (),
        raise_errors: bool = True,
        **settings_by_name: Any,
    ) -> None:
        self.settings = _settings(settings, settings_by_name)
        self.raise_errors = raise_errors
        self._plugins: list[tuple[object, Wish]] = [(plugin, Wish()) for plugin in plugins]
        self._errors: list[Exception] = []
        self._worker: Worker | None = None
        self._script = _Script()

    # ── before it starts ───────────────────────────────────────────────────────────────────────────────────────────

    def on(self, stage: str | type[stages.Event], /, **binding: Unpack[BindingWords]) -> Callable[[H], H]:
        """Bind a function to a stage: `@server.on("recipient")`. As `gatepost.on`, and bound at once."""
        mark = On()(stage, **binding)

        def bind(hook: H) -> H:
            self.add(mark(hook))
            return hook

        return bind

    def add(self, plugin: object, **binding: Unpack[BindingWords]) -> None:
        """Add a plugin: a marked function, a Plugin class or object, a module, a file or an import path."""
        self._before_start()
        self._plugins.append((plugin, _wish(binding)))

    def receive(self, match: str = "*") -> Callable[[Receiver], Receiver]:
        """Hand mail for matching recipients to a function, before the 250.

        When it returns, the mail is the application's; when it raises, the sender hears 451 and sends it again.
        """

        def bind(receiver: Receiver) -> Receiver:
            self._before_start()
            rule = "" if match == "*" else f"rcpt to={match}"
            self._plugins.append((_receiving(receiver), Wish(rule=rule, priority=32767, always=True)))
            return receiver

        return bind

    def script(self, verb: str, *replies: str, times: int = 1) -> None:
        """Answer a verb with these replies, one after the other, `times` over; then as usual. "." is end-of-data.

        `server.script("RCPT", "450 4.2.0 try later")` lets the next RCPT fail.
        """
        if not replies or times < 1:
            raise ValueError("a script has at least one reply, at least one time")
        if verb.upper() not in _SCRIPTED and not verb.upper().startswith("X"):
            close = get_close_matches(verb.upper(), _SCRIPTED, 1)
            meant = f'; did you mean "{close[0]}"?' if close else f"; there are {', '.join(_SCRIPTED)}"
            raise ValueError(f'no client says "{verb}"{meant}')
        for _ in range(times):
            self._script.add(verb, [_reply(text) for text in replies])

    # ── running ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Open everything and listen."""
        self._before_start()
        loaded: list[Loaded] = [load(plugin, wishes=[wish]) for plugin, wish in self._plugins]
        if self.settings.data is None:
            loaded.append(load(self._script))
        worker = Worker(self.settings, plugins=loaded, on_error=self._noted)
        await worker.start()
        self._worker = worker

    async def stop(self, grace_s: float = 5.0) -> None:
        """Finish transactions, then stop. With `raise_errors` what hooks raised comes out now."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(grace_s)
            self._script.clear()
        errors, self._errors = self._errors, []
        if errors and self.raise_errors:
            raise ExceptionGroup("hooks raised", errors)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            self._errors.clear()  # the test has failed already; its own error is the one to see
        await self.stop()

    @contextmanager
    def in_thread(self) -> Iterator[SyncServer]:
        """The server in a loop and thread of its own, for synchronous programs."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="gatepost", daemon=True)
        thread.start()
        sync = SyncServer(self, loop)
        try:
            sync.call(self.start())
            try:
                yield sync
            except BaseException:
                self._errors.clear()
                raise
            finally:
                sync.call(self.stop())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    @property
    def host(self) -> str:
        """Where the first listener listens."""
        return self._first.address[0]

    @property
    def port(self) -> int:
        """The first listener's port; the real one where 0 was asked for."""
        return self._first.address[1]

    @property
    def listeners(self) -> Mapping[str, Bound]:
        """Every listener, by name."""
        return self._running.listeners

    @property
    def messages(self) -> list[Received]:
        """What was accepted, in order; only without `data` and without next servers."""
        return self._inbox.messages

    async def wait_for_message(self, timeout_s: float = 5, **match: str) -> Received:
        """The first message that fits, now or within the time: `to`, `sender`, `subject` (exact), or a header's name.

        TimeoutError says what did arrive.
        """
        inbox = self._inbox

        def fits(message: Received) -> bool:
            return all(_has(message, key, value) for key, value in match.items())

        try:
            return await inbox.wait(fits, timeout_s)
        except TimeoutError:
            arrived = "; ".join(f"{one.subject!r} to {', '.join(one.recipients)}" for one in inbox.messages[-5:])
            raise TimeoutError(
                f"no message with {match or 'anything'} within {timeout_s:g} s; arrived: {arrived or 'none'}"
            ) from None

    async def send(
        self,
        message: Content,
        sender: str,
        recipients: str | Sequence[str],
        *,
        mode: str = "queue",
        progress: Hear | None = None,
        tls: str = "starttls",
        user: str | None = None,
        password: str | None = None,
        expire: str | float | None = None,
    ) -> Sent:
        """Send a message: into this server's queue, "now" to the recipients' own servers, or "via HOST:PORT".

        As `gatepost.send`; routes, signatures and outbound plugins are this server's.
        """
        return await self.sending.send(
            message,
            sender,
            recipients,
            mode=mode,
            progress=progress,
            tls=tls,
            user=user,
            password=password,
            expire=expire,
        )

    def explain(self, token: str) -> Explanation:
        """One session's story, by token or ticket. LookupError if nothing is known of it."""
        number: int | None = None
        try:
            ticket = Ticket.parse(token)
            token, number = ticket.token, ticket.number
        except TokenError:
            pass
        told = explain(self._running.stores.find(token), number)
        if told is None:
            raise LookupError(f"nothing is known of {token}")
        return told

    @property
    def sending(self) -> Sending:
        """The ways to send, one by one."""
        return self._running.delivering.sending

    @property
    def _running(self) -> Worker:
        if self._worker is None:
            raise RuntimeError("the server isn't running; use `async with server:`")
        return self._worker

    @property
    def _first(self) -> Bound:
        return next(iter(self._running.listeners.values()))

    @property
    def _inbox(self) -> Inbox:
        spool = self._running.stores.spool
        if not isinstance(spool, Inbox):
            raise RuntimeError("this server stores its mail; messages are kept only without data and next servers")
        return spool

    def _before_start(self) -> None:
        if self._worker is not None:
            raise RuntimeError("the server is running already")

    def _noted(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._errors.append(error)


class SyncServer:
    """A running server, used from another thread."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work in the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def host(self) -> str:
        return self._server.host

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def listeners(self) -> Mapping[str, Bound]:
        return self._server.listeners

    @property
    def messages(self) -> list[Received]:
        return self._server.messages

    def wait_for_message(self, timeout_s: float = 5, **match: str) -> Received:
        """As Server.wait_for_message, blocking."""
        return self.call(self._server.wait_for_message(timeout_s, **match))

    def send(
        self,
        message: Content,
        sender: str,
        recipients: str | Sequence[str],
        *,
        mode: str = "queue",
        progress: Hear | None = None,
        tls: str = "starttls",
        user: str | None = None,
        password: str | None = None,
        expire: str | float | None = None,
    ) -> Sent:
        """As Server.send, blocking. `progress` is called in the server's thread."""
        send = self._server.send(
            message,
            sender,
            recipients,
            mode=mode,
            progress=progress,
            tls=tls,
            user=user,
            password=password,
            expire=expire,
        )
        return self.call(send)

    def script(self, verb: str, *replies: str, times: int = 1) -> None:
        """As Server.script."""
        self._server.script(verb, *replies, times=times)

    def explain(self, token: str) -> Explanation:
        """As Server.explain."""
        return self._server.explain(token)


_SCRIPTED = (*(verb.value for verb in Verb if verb is not Verb.UNKNOWN), ".")


class _Script:
    """A plugin that answers as it was told to; asked first, and otherwise says nothing."""

    name = "script"

    def __init__(self) -> None:
        self._replies: dict[str, deque[Reply]] = {}

    def add(self, verb: str, replies: Sequence[Reply]) -> None:
        self._replies.setdefault(verb.upper(), deque()).extend(replies)

    def clear(self) -> None:
        self._replies.clear()

    @On()("command", priority=0, always=True, inline=True)
    def command(self, event: stages.Command) -> Answer:
        waiting = self._replies.get(event.verb) if event.blob is None else None
        return Respond(waiting.popleft()) if waiting else None

    @On()("message", priority=0, always=True, inline=True)
    def message(self, event: stages.Message) -> Answer:
        waiting = self._replies.get(".")
        return Refuse(waiting.popleft()) if waiting else None


def _receiving(receiver: Receiver) -> Callable[[stages.Message], Awaitable[Answer]]:
    async def handed(event: stages.Message) -> Answer:
        content = b"".join([chunk async for chunk in event.message])
        mail = Received(
            sender=event.sender.address,
            recipients=[recipient.address for recipient in event.recipients],
            content=content,
            ticket="" if event.transaction is None else str(event.transaction.ticket),
            authenticated=event.session.user,
        )
        work = receiver(mail)
        if work is not None:
            await work
        return Take(getattr(receiver, "__name__", "received"))

    handed.__name__ = getattr(receiver, "__name__", "receive")
    return On()("message")(handed)


def _settings(settings: Settings | str | os.PathLike[str] | None, by_name: Mapping[str, Any]) -> Settings:
    if isinstance(settings, Settings):
        if by_name:
            raise TypeError("give Settings or keys by name, not both")
        return settings
    if settings is None:
        return Settings.in_memory(**{"listen": "127.0.0.1:0", **by_name})
    if isinstance(settings, str) and ":" in settings and not Path(settings).exists():
        return Settings.in_memory(listen=settings, **by_name)
    return load_settings(settings, environ={}, overrides=by_name)


def _wish(words: BindingWords) -> Wish:
    given: dict[str, Any] = dict(words)
    if "timeout" in given:
        given["timeout"] = seconds(given["timeout"])
    return Wish(**given)


def _has(message: Received, key: str, value: str) -> bool:
    match key:
        case "to":
            return value in message.recipients
        case "sender":
            return value == message.sender
        case "subject":
            return value == message.subject
        case _:
            return value == (message.message.headers.get(key.replace("_", "-")) or None)


def _reply(text: str) -> Reply:
    code, _, rest = text.partition(" ")
    if not (code.isascii() and code.isdigit()):
        raise ValueError(f'"{text}" is no reply; write "450 4.2.0 try later"')
    status, _, words = rest.partition(" ")
    if status.count(".") == 2 and status.replace(".", "").isdigit():
        return Reply(int(code), status, words)
    return Reply(int(code), "", rest)
