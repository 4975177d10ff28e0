"""A host: one place where lives of a child process follow each other, and the questions that wait there.

All questions of different sessions are in flight together and are answered in any order. When a life ends with
questions in it, nobody knows whose fault it was: each is asked once more in the next life, alone for a moment, with a
fresh copy of its content; so a question that kills its process kills it a second time by itself, and the innocent are
answered. A question that isn't answered when its time is over costs the process, since a hook that hangs can't be
interrupted from here.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum, auto
from typing import Any

from gatepost.model import Blob
from gatepost.plugins.host.errors import HookFailed, HostBusy, HostDown, HostError, HostHung
from gatepost.plugins.host.life import Life, LoadRefused, Recipe
from gatepost.plugins.host.questions import Backoff, Question
from gatepost.plugins.host.scratch import SMALL, take_print
from gatepost.wire.host import Answer, Ask, Failed, Frame

IN_FLIGHT = 256  # questions with the child at a time
WAITING = 1024  # questions open at a time, those in flight among them
CONTROL = 10_000  # notices waiting for a child that doesn't read
ALONE_S = 0.25  # that a question asked for the second time is alone: what kills, kills at once
LONGEST_WAIT_S = 1.0  # for a life to begin; when it takes longer, who waits is told at once


class _Phase(Enum):
    DOWN = auto()
    READY = auto()
    CLOSED = auto()


class Host:
    """Invariant: every question is answered, failed or abandoned; at most one life at a time."""

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        log: logging.Logger,
        *,
        backoff: Backoff | None = None,
        grace_s: float = 1.0,
    ) -> None:
        """`grace_s`: how much later than its deadline a question may be answered before the process is killed."""
        self._name = name
        self._recipe = recipe
        self._log = log
        self._backoff = backoff or Backoff()
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._phase = _Phase.DOWN
        self._life: Life | None = None
        self._ids = itertools.count(1)
        self._in_flight: dict[int, Question] = {}
        self._suspects: deque[Question] = deque()
        self._waiting: deque[Question] = deque()
        self._control: deque[Frame] = deque()
        self._on_trial = 0
        """The id of the question that is asked for the second time, alone; 0 if there is none."""
        self._facts: dict[str, Any] | None = None
        self._opening: dict[str, Any] | None = None
        self._trust: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._beside: set[asyncio.Task[None]] = set()
        self._down_until = 0.0
        self.sessions = 0
        """How many keep to this host."""

    @property
    def pid(self) -> int | None:
        """The process of the life there is, if there is one."""
        return None if self._life is None else self._life.pid

    async def load(self) -> dict[str, Any]:
        """Begin the first life. What the plugin says of itself; LoadRefused, HostError."""
        self._life = await self._new_life()
        try:
            self._facts = await self._life.load()
        except BaseException:
            await self._life.end()
            self._life = None
            raise
        return self._facts

    async def open(self, facts: dict[str, Any]) -> None:
        """Let the plugin open, in this life and each one after; from now on questions are answered."""
        self._opening = facts
        if self._life is None:
            await self.load()
        assert self._life is not None
        try:
            await self._life.open(facts)
        except BaseException:
            await self._life.end()
            self._life = None
            raise
        self._is_ready(self._life)

    async def ask(self, question: Question) -> Answer:
        """The answer. HostBusy, HostDown, HostHung, HookFailed; ValueError if the question is too large, OSError if
        its content can't be written. Call `forget` afterwards, whatever came."""
        if len(self._in_flight) + len(self._waiting) + len(self._suspects) >= WAITING:
            raise HostBusy(f"{WAITING} questions are open in {self._name} already")
        life = self._life
        if (
            self._phase is _Phase.READY
            and life is not None
            and not (self._waiting or self._suspects or self._on_trial or self._control or life.channel.is_full)
            and len(self._in_flight) < IN_FLIGHT
        ):
            self._send(life, question)  # as nearly always; what `_pump` would do
            return await question.answer
        if self._phase is not _Phase.READY:
            self._expect_soon()
        self._waiting.append(question)
        self._pump()
        return await question.answer

    def forget(self, question: Question, edits: list[dict[str, Any]] | None = None) -> None:
        """The question is over and its answer, if there is one, has been used."""
        if question.content is not None or edits:
            life = question.life
            if life is not None and life is self._life:
                life.scratch.forget(question.file, edits or ())

    def tell(self, frame: Frame) -> None:
        """A notice, or the end of a session. Lost if no life is there: then nobody has anything to release."""
        if self._phase is not _Phase.READY or self._life is None:
            return
        if not self._life.channel.is_full and not self._control:
            self._life.send(frame)
            return
        self._control.append(frame)
        if len(self._control) > CONTROL:
            self._life.kill("doesn't read what it is told")

    async def close(self, grace_s: float) -> None:
        """Let the child answer what is open and leave, then make it. LoadRefused if its plugin couldn't be closed."""
        self._phase = _Phase.CLOSED
        if self._reviving is not None:
            self._reviving.cancel()
            with suppress(asyncio.CancelledError):
                await self._reviving
        closing = HostDown("the plugin is being closed")
        self._fail([*self._suspects, *self._waiting], closing)
        self._suspects.clear()
        self._waiting.clear()
        try:
            if self._life is not None:
                await self._life.stop(grace_s if self._opening is not None else 0.0)
        finally:
            self._life = None
            self._end_trial()
            if self._watch is not None:
                self._watch.cancel()
            self._fail(self._in_flight.values(), closing)
            self._in_flight.clear()
            for task in [*self._beside]:
                task.cancel()
            await asyncio.gather(*self._beside, return_exceptions=True)

    # ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _pump(self) -> None:
        """Ask what can be asked now."""
        life = self._life
        if self._phase is not _Phase.READY or life is None:
            return
        while self._control and not life.channel.is_full:
            life.send(self._control.popleft())
        if self._on_trial in self._in_flight:
            return
        self._end_trial()
        while self._suspects:
            suspect = self._suspects.popleft()
            self._send(life, suspect)
            if suspect.id in self._in_flight:
                self._on_trial = suspect.id
                self._trust = self._loop.call_later(ALONE_S, self._acquit)
                return
        while self._waiting and len(self._in_flight) < IN_FLIGHT and not life.channel.is_full:
            self._send(life, self._waiting.popleft())

    def _end_trial(self) -> None:
        self._on_trial = 0
        if self._trust is not None:
            self._trust.cancel()
            self._trust = None

    def _acquit(self) -> None:
        """Nothing has happened so far: it may go on beside others."""
        self._on_trial = 0
        self._pump()

    def _send(self, life: Life, question: Question) -> None:
        if question.answer.done():
            return
        question.id, question.life, question.file = next(self._ids), life, None
        question.asked += 1
        self._in_flight[question.id] = question
        if self._watch is None or self._watch.when() > question.deadline + self._grace_s:
            self._watch_until(question.deadline + self._grace_s)
        content = question.content
        try:
            if content is None:
                self._ask(life, question)
            elif content.size <= SMALL:
                if question.suffix is None:
                    question.file = life.scratch.write_small(question.id, content)
                else:
                    question.file, question.print = life.scratch.write_printed(question.id, content, question.suffix)
                self._ask(life, question)
            else:
                task = self._loop.create_task(self._send_large(life, question, content))
                self._beside.add(task)
                task.add_done_callback(self._beside.discard)
        except (ValueError, TypeError, OSError) as error:
            self._unsendable(question, error)

    async def _send_large(self, life: Life, question: Question, content: Blob) -> None:
        try:
            question.file = await life.scratch.write(question.id, content, question.suffix or "")
            if question.suffix is not None:
                question.print = take_print(question.file)
            if question.id in self._in_flight:
                self._ask(life, question)
        except (ValueError, TypeError, OSError) as error:
            if self._in_flight.get(question.id) is question:
                self._unsendable(question, error)
                self._pump()

    def _ask(self, life: Life, question: Question) -> None:
        left = max(0.0, question.deadline - self._loop.time())
        path = question.file
        if path is not None:
            path = self._recipe.path_there(path)
        facts = question.facts(path)
        life.channel.send(Ask(question.id, question.session, question.transaction, question.stage, facts, left, path))

    def _unsendable(self, question: Question, error: Exception) -> None:
        life = question.life
        if isinstance(error, OSError) and life is not None and life is self._life and not life.scratch.is_usable():
            life.kill("has lost the folder of its files")  # in the next life the question is asked again
            return
        self._in_flight.pop(question.id, None)
        self._fail([question], error)

    def _answered(self, frame: Answer | Failed) -> None:
        question = self._in_flight.pop(frame.id, None)
        if question is None:
            if self._life is not None:
                self._life.kill(f"broke the protocol: an answer to question {frame.id}, which isn't open")
            return
        if question.answer.done():  # nobody waits for it any more
            self.forget(question, frame.edits if isinstance(frame, Answer) else None)
        elif isinstance(frame, Failed):
            question.answer.set_exception(HookFailed(frame.kind, frame.text))
        else:
            question.answer.set_result(frame)
        if self._waiting or self._suspects or self._control:
            self._pump()

    # ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_until(self, when: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Whether a question is overdue. One timer serves all of them."""
        self._watch = None
        if not self._in_flight or self._life is None:
            return
        first = min(self._in_flight.values(), key=lambda question: question.deadline)
        if first.deadline + self._grace_s > self._loop.time():
            self._watch_until(first.deadline + self._grace_s)
        else:
            self._life.kill(f"didn't answer a question at {first.stage} in time")

    # ── from life to life ──────────────────────────────────────────────────────────────────────────────────────────

    async def _new_life(self) -> Life:
        if self._recipe.ready is not None:
            await self._recipe.ready()
        return Life(self._recipe, self._log, self._answered, self._ended, self._pump)

    def _is_ready(self, life: Life) -> None:
        self._phase = _Phase.READY
        if (why := life.over) is not None:  # between its last word and now
            self._ended(why)
        self._pump()

    def _ended(self, why: str) -> None:
        """The life there was has ended, before or after it was ready."""
        if self._phase is not _Phase.READY:
            return  # whoever is loading hears it
        now = self._loop.time()
        life, self._life = self._life, None
        assert life is not None
        self._phase = _Phase.DOWN
        self._control.clear()
        again = 0
        is_explained = self._on_trial in self._in_flight  # a question is to blame, and will be gone
        for question in self._in_flight.values():
            if question.deadline <= now:
                is_explained = True
                self._fail([question], HostHung(why))
            elif question.asked > 1:
                self._fail([question], HostDown(f"{why}, for the second time with this question"))
            elif not question.answer.done():
                self._suspects.append(question)
                again += 1
        self._in_flight.clear()
        self._end_trial()
        wait = self._backoff.first_s if is_explained else self._backoff.after(now - life.began, life.answered)
        told = f"; {again} question{'s are' if again > 1 else ' is'} asked again" if again else ""
        self._log.warning("%s; it starts again in %.1f s%s", why, wait, told)
        self._reviving = self._loop.create_task(self._revive(life, wait))

    async def _revive(self, dead: Life, wait: float) -> None:
        """Begin the next life, however often it takes."""
        life: Life | None = dead
        try:
            while True:
                self._down_until = self._loop.time() + wait
                if wait > LONGEST_WAIT_S:
                    self._fail([*self._suspects, *self._waiting], HostDown("its process is down"))
                    self._suspects.clear()
                    self._waiting.clear()
                if life is not None:
                    await life.end()
                life = None
                await asyncio.sleep(wait)
                began = self._loop.time()
                try:
                    life = await self._new_life()
                    if await life.load() != self._facts:
                        raise HostError("the plugin isn't what it was when the settings were loaded; reload them")
                    await life.open(self._opening or {})
                except (HostError, LoadRefused, OSError) as error:
                    wait = self._backoff.after(self._loop.time() - began, 0)
                    self._log.error("it couldn't start: %s; another try in %.1f s", error, wait)
                else:
                    self._life = life
                    self._is_ready(life)
                    return
        except asyncio.CancelledError:
            if life is not None:
                await life.end()
            raise

    def _expect_soon(self) -> None:
        """HostDown unless a life is about to begin."""
        if self._phase is _Phase.CLOSED or self._opening is None:
            raise HostDown("the plugin isn't open")
        if self._down_until - self._loop.time() > LONGEST_WAIT_S:
            raise HostDown("its process is down")

    def _fail(self, questions: Iterable[Question], error: Exception) -> None:
        for question in questions:
            if not question.answer.done():
                question.answer.set_exception(type(error)(*error.args))  # each its own, for its traceback
