"""`gatepost.send`: one message from a program that has no server of its own. `send_sync` is the same, blocking.

Strategy: "now" and "via" start a server in memory, without a listener, for this message. "queue" gives the message to
the server whose settings are named: to the one that runs, else into its data folder, where it finds it at its start.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from gatepost.app.messages import Content
from gatepost.app.queueing import queue
from gatepost.app.sending import Hear, Sent
from gatepost.app.settings import Settings
from gatepost.app.settings import load as load_settings

_BY_MX: Mapping[str, object] = {"match": "*", "deliver": "mx"}


async def send(
    message: Content,
    sender: str,
    recipients: str | Sequence[str],
    *,
    mode: str = "now",
    progress: Hear | None = None,
    tls: str = "starttls",
    user: str | None = None,
    password: str | None = None,
    expire: str | float | None = None,
    settings: Settings | str | os.PathLike[str] | None = None,
    **settings_by_name: Any,
) -> Sent:
    """Send a message; what each recipient's server said comes back, refusals too, and nothing is raised for them.

    `message` is bytes, str, an EmailMessage, a path or a binary file; Date, Message-ID and From are added where they
    are missing, Bcc is removed. `sender` may be "" for none. `mode`:

    - "now": straight to the servers of the recipients' domains, each tried once;
    - "via HOST:PORT": through that server; `tls` as in a route, `user` and `password` over TLS only;
    - "queue": durable in the queue of the server whose `settings` these are (a file, or `data` by name), which tries
      for days, or until `expire` ("24h", or seconds) is over.

    `progress` hears each step (finding host, connecting, dialogue, sending with the octets so far, done). `settings`
    and settings by name (`hostname`, `delivery`, `route` …) say how. Raises ValueError (AddressError) for an envelope
    or a mode that can't be, OSError where the message can't be read, SettingsError, and for "queue" QueueError.
    """
    if mode == "queue":
        if settings is None and "data" not in settings_by_name:
            raise ValueError('whose queue is it? settings="gatepost.toml", or data="…", names the server')
        return await queue(
            message, sender, recipients, _of(settings, settings_by_name), progress=progress, expire=expire
        )
    from gatepost.app.server import Server

    server = Server(without_listeners(settings, settings_by_name))
    async with server:
        return await server.send(
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


def send_sync(
    message: Content,
    sender: str,
    recipients: str | Sequence[str],
    *,
    mode: str = "now",
    progress: Hear | None = None,
    tls: str = "starttls",
    user: str | None = None,
    password: str | None = None,
    expire: str | float | None = None,
    settings: Settings | str | os.PathLike[str] | None = None,
    **settings_by_name: Any,
) -> Sent:
    """As `send`, for programs without a loop; RuntimeError within one."""
    if is_within_a_loop():
        raise RuntimeError("send_sync would stop the loop that runs here: await send(…)")
    work: Coroutine[Any, Any, Sent] = send(
        message,
        sender,
        recipients,
        mode=mode,
        progress=progress,
        tls=tls,
        user=user,
        password=password,
        expire=expire,
        settings=settings,
        **settings_by_name,
    )
    try:
        return asyncio.run(work)
    finally:
        work.close()


def is_within_a_loop() -> bool:
    """Whether this thread runs an event loop just now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _of(settings: Settings | str | os.PathLike[str] | None, by_name: Mapping[str, Any]) -> Settings:
    if isinstance(settings, Settings):
        if by_name:
            raise TypeError("give Settings or keys by name, not both")
        return settings
    return load_settings(settings, environ={}, overrides=by_name)


def without_listeners(settings: Settings | str | os.PathLike[str] | None, by_name: Mapping[str, Any]) -> Settings:
    """In memory, without what only a server that listens needs."""
    if settings is None:
        return Settings.in_memory(**{"listen": [], "route": [_BY_MX], **by_name})
    bare: dict[str, Any] = {"listen": (), "data": None, "plugin": (), "user": ()}
    return _of(settings, by_name).model_copy(update=bare)
