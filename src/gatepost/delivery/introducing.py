"""Telling the next server for whom a message is sent: XFORWARD before each message, XCLIENT before each client's first.

Sources: Postfix's XFORWARD_README and XCLIENT_README. What XFORWARD says holds for one message and is for the server's
log, so its refusal changes nothing. After XCLIENT the server takes us for that client: its refusal is the client's, and
the session is never used for anybody else (nor would Postfix let us: it then trusts the client's address, not ours).
"""

from __future__ import annotations

from collections.abc import Mapping

from gatepost.delivery.connection import Connection, Unreachable, later
from gatepost.model import Reply
from gatepost.model.origin import Origin
from gatepost.wire.smtp.client_events import Introduction, Phase

_OF_THE_CLIENT = frozenset({450, 451, 550, 554})
"""What a server says that doesn't want this client; other codes are about the command."""


def origin_in(facts: Mapping[str, str], login: str | None) -> Origin | None:
    """The origin that a deposit's facts keep, if they do."""
    kept = facts.get("origin")
    return None if kept is None else Origin.of_fact(kept, login or "")


async def introduced(connection: Connection, by: Introduction, origin: Origin | None) -> Reply | Unreachable | None:
    """Tell the server, where it wants to know; None if the message may then be sent over this session.

    Else what the server says of the client; or `Unreachable`, where it is the session that came to nothing.
    """
    if origin is None or (by is Introduction.XCLIENT and connection.introduced == origin):
        return None
    reply = await connection.introduce(origin.attributes(), by=by)
    if connection.is_over and (reply is None or reply.is_positive):
        why = connection.failure or "it closed the connection"
        return Unreachable(Phase.INTRODUCTION, later("4.4.2", connection.host, why))
    if reply is None or by is Introduction.XFORWARD:
        return None
    if reply.is_positive:
        connection.introduced = origin
        return None
    if reply.code in _OF_THE_CLIENT:
        return reply
    return Unreachable(Phase.INTRODUCTION, later("4.5.0", connection.host, f"it said {reply} to XCLIENT"))
