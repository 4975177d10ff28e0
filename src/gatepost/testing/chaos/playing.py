"""Sessions played against a server, several at a time, and what was found.

Every so many sessions, after each that found something, and at the end, a plain session sends one message: it must hear
what it heard before the first one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gatepost.hooks.stages import Command, Replying
from gatepost.plugins.loaded import Loaded
from gatepost.testing.chaos.lines import Arena, Line, MemoryArena, Wrong
from gatepost.testing.chaos.steps import Handshake, HangUp, Hear, Send, Session, Shut
from gatepost.testing.chaos.walk import EDITION, generate
from gatepost.testing.chaos.watch import Expected, Mode, Watch
from gatepost.testing.chaos.words import Knobs
from gatepost.testing.rig import Rig

KEPT = 50
_SEPARATE = 3
_QUIET_S = 0.02
_PLAIN = Session(
    -1,
    (
        Hear(),
        Send(b"EHLO client.example\r\n"),
        Hear(),
        Send(b"MAIL FROM:<dave@bobo.example>\r\n"),
        Hear(),
        Send(b"RCPT TO:<ann@example.org>\r\n"),
        Hear(),
        Send(b"DATA\r\n"),
        Hear(),
        Send(b"From: Dave <dave@bobo.example>\r\nSubject: plain\r\n\r\nHello Ann.\r\n.\r\n", after=354),
        Hear(),
        Send(b"QUIT\r\n"),
        Hear(),
    ),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was wrong in one session."""

    seed: int
    """Of the session; -1 for the plain one."""
    step: int
    """The step after which it was seen; -1 after the last."""
    kind: str
    """ "dialogue", "server" or "plugin"."""
    what: str
    dialogue: str

    def __str__(self) -> str:
        of = "the plain session" if self.seed < 0 else f"seed {self.seed}"
        if self.seed >= 0 <= self.step:
            of += f", step {self.step}"
        return f"{of}: {self.what}"


@dataclass(slots=True)
class Report:
    """What so many sessions came to."""

    first_seed: int
    sessions: int = 0
    steps: int = 0
    octets: int = 0
    """Sent by the clients."""
    taken: int = 0
    """Contents that were answered with 2xx."""
    replies: Counter[int] = field(default_factory=Counter)
    """How often each code was heard."""
    findings: list[Finding] = field(default_factory=list)
    """The first ones; of the same kind a few."""
    found: Counter[str] = field(default_factory=Counter)
    """How often each thing was wrong."""
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not self.found

    def add(self, finding: Finding, sort: str) -> None:
        """One more."""
        self.found[sort] += 1
        if self.found[sort] <= _SEPARATE and len(self.findings) < KEPT:
            self.findings.append(finding)

    def __str__(self) -> str:
        classes: Counter[str] = Counter()
        for code, count in self.replies.items():
            classes[f"{code // 100}xx"] += count
        heard = ", ".join(f"{count} {name}" for name, count in sorted(classes.items()))
        lines = [
            f"{self.sessions} sessions from seed {self.first_seed} (edition {EDITION}), {self.steps} steps, "
            f"{self.octets} octets, {self.seconds:.1f} s",
            f"heard {heard or 'nothing'}; {self.taken} messages taken",
        ]
        if self.is_clean:
            return "\n".join([*lines, "nothing was wrong"])
        lines += ["", *(f"{count} × {what}" for what, count in self.found.most_common())]
        told: dict[tuple[int, str], list[Finding]] = {}
        for finding in self.findings:
            told.setdefault((finding.seed, finding.dialogue), []).append(finding)
        for (_, dialogue), findings in told.items():  # each dialogue once
            lines += ["", *dict.fromkeys(map(str, findings)), *(f"    {line}" for line in dialogue.splitlines())]
        return "\n".join(lines)


async def play(session: Session, line: Line, watch: Watch, patience_s: float) -> int:
    """Say a session's steps on a line, and listen to the end. Returns the step at which it ended, -1 after the last."""
    for number, step in enumerate(session.steps):
        watch.heard(line.heard_now())
        if watch.findings or watch.is_closed:
            return number
        match step:
            case Send(octets, after):
                if after in (0, watch.last, watch.last // 100):
                    watch.sent(octets)
                    await line.send(octets)
            case Hear():
                await _hear(line, watch, patience_s)
            case Handshake(octets) if watch.mode is Mode.TLS:
                if not await line.handshake(octets):
                    watch.hung_up(at_once=True)
                    break
                watch.handshake_done()
            case Shut():
                break
            case HangUp():
                watch.hung_up(at_once=True)
                await line.hang_up()
                return number
            case _:
                pass
    await _leave(line, watch, patience_s)
    return -1


async def _hear(line: Line, watch: Watch, patience_s: float) -> None:
    """Every reply that is owed, or the end."""
    if watch.mode is Mode.LOOSE:
        await _listen(line, watch, _QUIET_S)
        return
    while watch.owes:
        if not await _listen(line, watch, patience_s):
            watch.silent(patience_s)


async def _leave(line: Line, watch: Watch, patience_s: float) -> None:
    """Say no more; what is owed must come, and then the end."""
    if watch.mode is not Mode.OVER and not await line.shut():
        await _hear(line, watch, patience_s)
        watch.hung_up()
        return
    watch.hung_up()
    while not (watch.is_closed or watch.findings):
        if not await _listen(line, watch, patience_s):
            if watch.owes:
                watch.silent(patience_s)
            else:
                watch.wrong(f"the connection wasn't closed within {patience_s:g} s")


async def _listen(line: Line, watch: Watch, seconds: float) -> bool:
    """What comes next, or the end; False if nothing came."""
    if not (heard := line.heard_now()):
        try:
            async with asyncio.timeout(seconds):
                heard = await line.hear()
        except TimeoutError:
            return False
    if heard:
        watch.heard(heard)
    else:
        if line.was_reset:  # what was said last may be lost
            watch.hung_up()
        watch.closed()
    return True


@dataclass(slots=True)
class _Run:
    """Invariant: a seed is played once; what it found is in the report before the next plain session."""

    arena: Arena
    report: Report
    seeds: Iterator[int]
    knobs: Knobs
    expected: Expected
    patience_s: float
    plain_every: int
    progress: Callable[[Report], None] | None
    plain: list[int] = field(default_factory=list)
    """The codes that the plain session heard first."""

    async def worker(self) -> None:
        for seed in self.seeds:
            found = await self.one(generate(seed, self.knobs))
            report = self.report
            report.sessions += 1
            if found or (self.plain_every and report.sessions % self.plain_every == 0):
                await self.check_plain()
            if self.progress is not None:
                self.progress(report)

    async def one(self, session: Session) -> bool:
        """Play one; whether anything was wrong."""
        watch = Watch(self.expected)
        step, wrong = await self.played(session, watch)
        self.report.steps += len(session.steps)
        self.report.octets += session.octets
        self.note(session, step, wrong, watch)
        return bool(wrong)

    async def played(self, session: Session, watch: Watch) -> tuple[int, list[Wrong]]:
        try:
            line = await self.arena.connect()
        except (OSError, TimeoutError) as error:
            return -1, [Wrong("server", f"no connection: {error}")]
        try:
            step = await play(session, line, watch, self.patience_s)
        finally:
            await line.hang_up()
        wrong = [Wrong("dialogue", text) for text in watch.findings]
        return step, wrong + await self.arena.ended(line, watch, self.patience_s)

    def note(self, session: Session, step: int, wrong: list[Wrong], watch: Watch) -> None:
        report = self.report
        report.taken += watch.taken
        report.replies.update(watch.codes)
        for one in wrong:
            sort = one.text.partition(": ")[0] if one.kind == "dialogue" else one.text
            report.add(Finding(session.seed, step, one.kind, one.text, str(watch)), f"{one.kind}: {sort}"[:160])

    async def check_plain(self) -> None:
        watch = Watch(self.expected)
        step, wrong = await self.played(_PLAIN, watch)
        if not self.plain:
            self.plain += watch.codes
        elif not wrong and watch.codes != self.plain:
            before, now = (" ".join(map(str, codes)) for codes in (self.plain, watch.codes))
            wrong = [Wrong("server", f"a plain session hears {now}, before it heard {before}")]
        self.note(_PLAIN, step, wrong, watch)


async def run(
    arena: Arena,
    *,
    sessions: int,
    seed: int = 1,
    knobs: Knobs | None = None,
    expected: Expected | None = None,
    patience_s: float = 120.0,
    at_once: int = 8,
    plain_every: int = 100,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Play the sessions numbered from `seed` on against a server, `at_once` at a time; what was found.

    `patience_s` is how long (s) a reply may take. `progress` hears of each session that is over.
    """
    report = Report(seed)
    began = time.monotonic()
    seeds = iter(range(seed, seed + sessions))
    work = _Run(arena, report, seeds, knobs or Knobs(), expected or Expected(), patience_s, plain_every, progress)
    await work.check_plain()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, sessions)):
            group.create_task(work.worker())
    await work.check_plain()
    report.seconds = time.monotonic() - began
    return report


async def run_with(plugins: Sequence[Loaded], *, expected: Expected | None = None, **words: Any) -> Report:
    """As run, against a server in memory that has these plugins; they are closed with it.

    What is expected of the server depends on them if it isn't given: a plugin asked about commands or replies may
    answer in the server's place. Plugins that fail are asked again and again, as if they had no breaker. What goes
    wrong while they are closed is a finding too.
    """
    for plugin in plugins:
        plugin.bindings = [replace(binding, breaker=None) for binding in plugin.bindings]
    rig = Rig(plugins)
    errors: list[Exception] = []
    try:
        await rig.open()
        report = await run(MemoryArena(rig), expected=expected or expected_with(plugins, words.get("knobs")), **words)
    finally:
        errors += await rig.close()
    for error in errors:
        report.add(Finding(-1, -1, "plugin", f"closing: {error!r}", ""), f"plugin: closing: {error!r}"[:160])
    return report


def expected_with(plugins: Sequence[Loaded], knobs: Knobs | None = None) -> Expected:
    """What must hold in a server with these plugins."""
    stages = {binding.stage for plugin in plugins for binding in plugin.bindings}
    verbs = frozenset(verb.upper().encode() for verb in (knobs.verbs if knobs else ()))
    return Expected(by_the_book=not stages & {Command, Replying}, accepts=not stages, verbs=verbs)
