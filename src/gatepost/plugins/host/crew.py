"""The processes that run one plugin, and how an event is asked of them.

A session keeps to one process, since what the plugin keeps for it (`per_session`, `per_transaction`) lives there; the
process is told when a transaction or session it knows is over. What dies with a process is what it kept.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path as File
from typing import Any

from gatepost.hooks.notices import Notice
from gatepost.hooks.records import plain_recipient
from gatepost.hooks.session import Session
from gatepost.hooks.stages import Event, Headers, Message
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import Verdict
from gatepost.model import Blob, Recipient
from gatepost.plugins.host.errors import HookFailed
from gatepost.plugins.host.facts import (
    Take,
    apply,
    fixed_session_facts,
    notice_facts,
    plain_path,
    session_facts,
    stage_facts,
)
from gatepost.plugins.host.keeping import keep
from gatepost.plugins.host.life import LoadRefused, Recipe
from gatepost.plugins.host.questions import Backoff, Question
from gatepost.plugins.host.scratch import Scratch, rewritten, sweep, take_beside
from gatepost.plugins.host.supervision import Host
from gatepost.wire.host import Answer, SessionEnded, Told

Facts = Callable[[str | None], dict[str, Any]]
"""Makes a question's facts from its content's path."""
Receive = Callable[[Answer, Take], Awaitable[None]]
"""Takes the files that an answer names, which lie beside its question's content."""

_others = itertools.count(1)  # sessions that aren't inbound


class Crew:
    """One plugin's processes. Begun by `load`, ended by `close`; nothing is left of it then."""

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        *,
        processes: int = 1,
        backoff: Backoff | None = None,
        grace_s: float = 1.0,
        stop_s: float = 5.0,
    ) -> None:
        """`grace_s`: how long after its deadline a question may be answered; `stop_s`: how long closing may take."""
        if processes < 1:
            raise ValueError("a plugin needs at least one process")
        self.name = name
        self._log = logging.getLogger(f"gatepost.plugins.{name}")
        self._stop_s = stop_s
        backoff = backoff or Backoff()
        self.hosts = [
            Host(name, recipe, self._log, backoff=Backoff(backoff.first_s, backoff.most_s), grace_s=grace_s)
            for _ in range(processes)
        ]
        sweep(recipe.scratch)
        if recipe.quick is not None:
            sweep(recipe.quick)
        self._kept = Scratch(recipe.scratch)
        self._kept_count = 0
        self._loop = asyncio.get_running_loop()

    async def load(self) -> dict[str, Any]:
        """What the plugin says of itself, in one process; the others follow at `open`. LoadRefused, HostError."""
        try:
            return await self.hosts[0].load()
        except BaseException:
            await self._kept.remove()
            raise

    async def open(self, facts: dict[str, Any]) -> None:
        """Let the plugin open, in every process. LoadRefused, HostError, after everything was closed."""
        try:
            for host in self.hosts:
                await host.open(facts)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> list[LoadRefused]:
        """Let every process leave; what the plugin couldn't close."""
        ended = await asyncio.gather(*(host.close(self._stop_s) for host in self.hosts), return_exceptions=True)
        await self._kept.remove()
        if broken := [one for one in ended if isinstance(one, BaseException) and not isinstance(one, LoadRefused)]:
            raise broken[0]
        return [one for one in ended if isinstance(one, LoadRefused)]

    async def ask(self, event: Event, more: Mapping[str, Any]) -> Verdict | dict[Recipient, Verdict]:
        """The verdict on an event, its edits and notes taken into it. `more`: further facts for the host.

        Raises HostError, TimeoutError, RecordError, EventClosed, OSError, ValueError: all of them a failed hook.
        """
        session, transaction = event.session, event.transaction
        bond = self._bond(session)
        facts = stage_facts(event)
        facts |= more
        facts["session"] = session_facts(session, bond.fixed)
        if transaction is not None:
            known = self._known(event, transaction, bond)  # until the answer is there
            facts["transaction"] = known.facts(transaction)
        content = event.message.blob if isinstance(event, Headers | Message) else None
        question = self._question(event, lambda _: facts, content, bond)
        host = bond.host
        edits: list[dict[str, Any]] = []
        try:
            answer = await host.ask(question)
            edits = answer.edits
            if answer.rewritten:
                raise HookFailed("AnswerError", "a rewritten file isn't taken here; changes are edits")

            async def take(name: object) -> Blob:
                assert question.life is not None
                blob = await question.life.scratch.take(question.id, name, self._new_file())
                keep(blob, transaction)
                return blob

            return await apply(event, answer, take)
        except HookFailed as error:
            if error.kind == "TimeoutError":
                raise TimeoutError(str(error)) from None
            raise
        finally:
            host.forget(question, edits)

    async def exchange(
        self,
        event: Event,
        facts: Facts,
        *,
        content: Blob | None = None,
        suffix: str | None = None,
        receive: Receive | None = None,
    ) -> tuple[Answer, Blob | None]:
        """The bare answer to a question made of `facts` and `content`, and the content if the plugin has rewritten it.

        `facts` gets the content's path as the process knows it; the file's name ends with `suffix`. Without one the
        plugin may do to the file what it likes, and nobody looks. What is rewritten is there as long as the caller has
        it; `keep` it. Other files beside that one are taken by `receive`. Raises as `ask` does, and what `receive`
        raises.
        """
        bond = self._bond(event.session)
        question = self._question(event, facts, content, bond)
        question.suffix = suffix
        try:
            answer = await bond.host.ask(question)
            if receive is not None:
                await receive(answer, lambda name: take_beside(question.file, question.id, name, self._new_file))
            if question.file is None or question.print is None or question.life is None:
                return answer, None
            before = content if question.life.scratch.hides(question.file) else None
            return answer, await rewritten(question.file, question.print, before, self._new_file)
        except HookFailed as error:
            if error.kind == "TimeoutError":
                raise TimeoutError(str(error)) from None
            raise
        finally:
            if content is not None:
                bond.host.forget(question)

    def tell(self, notice: Notice) -> None:
        """Tell a notice, in the process of its session if it has one. Lost while that process is down."""
        session, facts = notice_facts(notice)
        if session is None:
            self.hosts[0].tell(Told("", notice.name, facts))
        else:
            bond = self._bond(session)
            bond.host.tell(Told(bond.id, notice.name, facts))

    def _question(self, event: Event, facts: Facts, content: Blob | None, bond: _SessionBond) -> Question:
        number = 0 if event.transaction is None else event.transaction.ticket.number
        deadline = self._loop.time() + event.remaining_s
        return Question(bond.id, number, event.name, facts, deadline, content, self._loop.create_future())

    def _known(self, event: Event, transaction: Transaction, bond: _SessionBond) -> _TransactionBond:
        made = partial(_TransactionBond, bond.host, bond.id, transaction.ticket.number)
        try:
            return transaction.holder.get(self, made)
        except LookupError:  # a shadow, asked when the transaction is over
            return made()

    def _bond(self, session: Session) -> _SessionBond:
        try:
            return session.holder.get(self, lambda: _SessionBond(self.least_busy(), session))
        except LookupError:  # the same, when the session is over
            return _SessionBond(self.least_busy(), session)

    def _new_file(self) -> File:
        self._kept_count += 1
        return self._kept.folder / str(self._kept_count)

    def least_busy(self) -> Host:
        """Where the next session goes."""
        return self.hosts[0] if len(self.hosts) == 1 else min(self.hosts, key=lambda host: host.sessions)


class _SessionBond:
    """A session's process. Lives in the session's holder; invariant: its end is told once.

    A shadow may still be asked when the session is over; then the bond ends with the last who knows the session.
    """

    __slots__ = ("_is_open", "fixed", "host", "id")

    def __init__(self, host: Host, session: Session) -> None:
        self.host = host
        self.fixed = fixed_session_facts(session)
        self.id = session.id if session.listener else f"{session.id}/{next(_others)}"
        """What the process knows it by. After the 250 several have a token in common, with the inbound one too."""
        self._is_open = True
        host.sessions += 1

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.host.sessions -= 1
            self.host.tell(SessionEnded(self.id))

    __del__ = close


class _TransactionBond:
    """What the process knows of a transaction. Lives in its holder, or for one question of a shadow that comes
    late; its end is told once."""

    __slots__ = ("_host", "_is_open", "_number", "_plain", "_seen", "_session")

    def __init__(self, host: Host, session: str, number: int) -> None:
        self._host = host
        self._session = session
        self._number = number
        self._is_open = True
        self._seen: list[Recipient] | None = None
        self._plain: list[list[Any]] = []

    def facts(self, transaction: Transaction) -> dict[str, Any]:
        """The envelope so far. Recipients are made plain once: a list that has grown has only grown at its end."""
        now = transaction.recipients
        if now is not self._seen or len(now) < len(self._plain):
            self._seen, self._plain = now, []
        if len(now) > len(self._plain):
            self._plain = self._plain + [plain_recipient(one) for one in now[len(self._plain) :]]
        return {
            "sender": plain_path(transaction.sender),
            "parameters": dict(transaction.parameters),
            "recipients": self._plain,
            "kept": transaction.kept,
        }

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._host.tell(Told(self._session, "transaction-ended", {"transaction": self._number}))

    __del__ = close
