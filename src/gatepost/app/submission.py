"""Mail that doesn't come over a connection: a program in this process, or a command on this machine, hands it in.

Strategy: such mail is as good as accepted: it gets a ticket, a Received field and what its author left out, and is
durable when `submit` returns. What a listener would ask of a stranger isn't asked: whoever may open the data folder or
hold the server object may send.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gatepost.content.headers import read_section
from gatepost.content.outgoing import body_of, completed
from gatepost.content.received import MAX_RECEIVED, count_received, date
from gatepost.model import Blob, Envelope, Path, Recipient, Ticket
from gatepost.store.spool import Deposit, Spool

_SMALL = 256 * 1024  # octets that are looked through in the loop
LISTENER = "local"  # how explain and trace name where it came from
_UNNAMED = "a local program"


class SubmissionError(ValueError):
    """This can't be sent; the text says why."""


class Submissions:
    """Takes mail into one spool."""

    def __init__(
        self,
        spool: Spool,
        new_token: Callable[[], str],
        *,
        hostname: str,
        size_limit: int,
        has_room: Callable[[int], bool],
        has_route: Callable[[Path, Path, str | None], bool],
        record: Callable[[str, str, Mapping[str, Any]], None],
    ) -> None:
        """`new_token` makes tokens of the spool's shard, `record` takes (token, kind, facts) for the trace."""
        self._spool = spool
        self._new_token = new_token
        self._hostname = hostname
        self._size_limit = size_limit
        self._has_room = has_room
        self._has_route = has_route
        self._record = record

    def new_ticket(self) -> Ticket:
        """A ticket for one message, so that its progress can be followed from the beginning."""
        return Ticket(self._new_token(), 1)

    async def submit(
        self,
        content: Blob,
        sender: Path,
        recipients: Sequence[Recipient],
        *,
        ticket: Ticket | None = None,
        user: str = "",
        name: str = "",
        parameters: Mapping[str, str] | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Ticket:
        """Queue one message; durable when this returns. The ticket is what `explain` and `queue` know it by.

        `user` is who sends, `name` is shown in a From that is missing, `parameters` are MAIL's (RET, ENVID). Raises
        SubmissionError for what can't be sent, SpoolError where it can't be stored now.
        """
        if not recipients:
            raise SubmissionError("a message needs at least one recipient")
        if content.size > self._size_limit:
            raise SubmissionError(f"the message has {content.size} octets, limits.message_size is {self._size_limit}")
        if not self._has_room(content.size):
            raise SubmissionError("there is no room for this message now: spool.keep_free would be undercut")
        whose = (sender, user or _UNNAMED)
        lost = [recipient.address for recipient in recipients if not self._has_route(recipient.path, *whose)]
        if lost:
            raise SubmissionError(f"no route takes mail for {', '.join(lost[:5])}")
        if count_received(read_section(content)) > MAX_RECEIVED:
            raise SubmissionError("this message has been through too many servers: it goes round in a loop")
        ticket = ticket or self.new_ticket()
        now = time.time()
        utf8 = sender.needs_smtputf8 or any(recipient.path.needs_smtputf8 for recipient in recipients)
        utf8 = utf8 or not read_section(content).raw.isascii()
        written = date(now, time.localtime(now).tm_gmtoff)
        by = f"from user {user}" if user.isascii() and user.isalnum() else f"from {_UNNAMED}"
        received = f"Received: by {self._hostname} (Gatepost, {by}) id {ticket}; {written}\r\n"
        message = completed(
            content,
            date=written,
            message_id=f"{ticket}@{self._hostname}",
            sender=sender,
            name=name,
            received=received.encode(),
            utf8=utf8,
        )
        body = await asyncio.to_thread(body_of, message) if message.size > _SMALL else body_of(message)
        unique = tuple(dict.fromkeys(recipients))
        envelope = Envelope(sender, unique, body, utf8, parameters or {})
        deposit = Deposit(ticket, envelope, message, now, authenticated=whose[1], facts=facts or {})
        await self._spool.commit([deposit])
        self._tell(deposit, message.size, user)
        return ticket

    def _tell(self, deposit: Deposit, size: int, user: str) -> None:
        token, number = deposit.ticket.token, deposit.ticket.number
        self._record(token, "session", {"peer": LISTENER, "port": 0, "listener": LISTENER, "user": user})
        self._record(token, "sender", {"transaction": number, "sender": deposit.envelope.sender.address})
        for recipient in deposit.envelope.recipients:
            self._record(token, "recipient", {"transaction": number, "recipient": recipient.address})
        each = {recipient.address: ["queued", "house", ""] for recipient in deposit.envelope.recipients}
        facts = {"transaction": number, "size": size, "reply": f"250 2.0.0 queued as {deposit.ticket}", "each": each}
        self._record(token, "message", facts)
        self._record(token, "end", {"how": "submitted", "messages": 1})
