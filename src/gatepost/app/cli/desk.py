"""How commands reach a server: through its control socket, or, with none running, by opening the stores themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from gatepost.app.cli.access import as_the_server
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.admin.desk import Desk
    from gatepost.app.cli.frame import Frame


def ask(frame: Frame, action: str, arguments: Mapping[str, Any] | None = None, *, needs_server: bool = False) -> Any:
    """The result of an action. Failure says why it can't be had, and what to do."""
    from gatepost.app.control import ControlClient, ControlError, NotRunning

    settings, _ = frame.settings_or_without_bindings()
    if settings.data is None:
        raise Failure("these settings have no data folder", Exit.CONFIGURATION, next_step='data = "/var/lib/gatepost"')
    try:
        with ControlClient(settings.data) as client:
            return client.ask(action, arguments)
    except NotRunning as error:
        if needs_server:
            raise Failure(str(error), Exit.UNAVAILABLE, next_step="gatepost run") from None
    except ControlError as error:
        raise Failure(error.failure.message, _exit(error.failure.code), next_step=error.failure.mend) from None
    from gatepost.app.stores import offline_desk

    as_the_server(settings)
    return asyncio.run(_ask_stores(offline_desk(settings, writes=action.startswith("queue.")), action, arguments or {}))


def _exit(code: int) -> Exit:
    return Exit(code) if code in set(Exit) else Exit.TEMPORARY


async def _ask_stores(opened: AbstractAsyncContextManager[Desk], action: str, arguments: Mapping[str, Any]) -> Any:
    from gatepost.admin.queue import ActionError

    try:
        async with opened as desk:
            return await desk.do(action, arguments)
    except ActionError as error:
        raise Failure(str(error), _exit(error.code), next_step=error.mend) from None
