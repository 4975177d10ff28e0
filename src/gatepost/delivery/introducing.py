"""Telling the next server for whom a message is sent: XFORWARD before each message, XCLIENT before each client's first.

Sources: Postfix's XFORWARD_README and XCLIENT_README. What XFORWARD says holds for one message and is for the server's
log, so its refusal changes nothing. After XCLIENT the server treats us as that client: its refusal is the client's, and
the session is never used for anybody else without a new one.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatepost.delivery.connection import Connection, later
from gatepost.model import Reply
from gatepost.model.origin import Origin
from gatepost.wire.smtp.client_events import Introduction

_OF_THE_CLIENT = frozenset({421, 450, 451, 550, 554})
"""What a server says that doesn't want this client; other codes are about the command."""


def origin_in(facts: Mapping[str, str], login: str | None) -> Origin | None:
    """The origin that a deposit's facts keep, if they do."""
    kept = facts.get("origin")
    return None if kept is None else Origin.of_fact(kept, login or "")


async def introduced(connection: Connection, by: Introduction, origin: Origin | None) -> Reply | None:
    """Tell the server, where it wants to know; why the message mustn't be sent over this session, None if it may."""
    if origin is None or (by is Introduction.XCLIENT and connection.introduced == origin):
        return None
    reply = await connection.introduce(origin.attributes(), by=by)
    if connection.is_over and (reply is None or reply.is_positive):
        return later("4.4.2", connection.host, connection.failure or "it closed the connection")
    if reply is None or by is Introduction.XFORWARD:
        return None
    if reply.is_positive:
        connection.introduced = origin
        return None
    if reply.code in _OF_THE_CLIENT:
        return reply
    return later("4.5.0", connection.host, f"it said {reply} to XCLIENT")
