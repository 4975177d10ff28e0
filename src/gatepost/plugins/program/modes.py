"""What is asked of a program in each mode, and what its exit code, its output and its files mean.

An answer is taken whole or not at all: edits are recorded after everything was read, so that a program which fails
leaves no trace. Exit codes are qmail's and ORF's (contracts: Filters; External Agents; MTA pickup event).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as File
from shlex import quote

from gatepost.content.difference import differences
from gatepost.content.pieces import crlf
from gatepost.hooks.stages import Message
from gatepost.hooks.verdicts import PROCEED, Discard, Quarantine, Refuse, Verdict
from gatepost.model import AddHeader, Blob, Bytes, Edit, ReplaceMessage, Reply
from gatepost.plugins.host.keeping import OwnFile, keep
from gatepost.plugins.host.scratch import SMALL
from gatepost.plugins.loaded import Exchange
from gatepost.plugins.program.envelope import (
    Addresses,
    addresses,
    changes,
    environment,
    read_envelope,
    told_in_words,
    write_envelope,
)
from gatepost.plugins.program.options import CUSTOM, NOT_STARTED, REFUSED, ProgramOptions
from gatepost.plugins.program.pickup import INBOUND, command_file, new_name, read_back, read_command_file
from gatepost.plugins.program.running import Finished, ProgramFailed, Runner, Turn

PLACE = "{EMAILFILESPEC}"
_PIECE = 256 * 1024
_MOST_SAID = 64 * 1024  # octets of output that is only looked at
_MOST_ENVELOPE = 4 * 1024 * 1024
_TEMPORARY = 71
_PERMANENT = frozenset({*range(11, 41), 115})  # qmail-queue's classes
_OPENING = 'in=$1 out=$2 queue=$3; shift 3; exec "$@" 3<"$in" 4>"$out" 5>"$queue"'


class Asking:
    """One plugin's hook: asks its program about a message."""

    def __init__(
        self,
        name: str,
        commands: Sequence[Sequence[str]],
        base: Mapping[str, str],
        options: ProgramOptions,
        runner: Runner,
        tell: Callable[[Exchange], None],
    ) -> None:
        """`commands` are several only for qfilter; `tell` hears every call."""
        self._name = name
        self._commands = commands
        self._base = base
        self._options = options
        self._runner = runner
        self._tell = tell

    async def message(self, event: Message) -> Verdict:
        """The program's verdict; its edits are recorded. ProgramFailed, EnvelopeError, OSError: a failed hook."""
        before = event.message.blob
        ask = {"filter": self._filter, "qfilter": self._qfilter, "scan": self._scan, "pickup": self._pickup}
        async with self._runner.turn(before.size) as turn:
            return await ask[self._options.mode](event, before, turn)

    # ── filters ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _filter(self, event: Message, before: Blob, turn: Turn) -> Verdict:
        told = addresses(event)
        mail = await turn.write("mail", before, lf=self._options.reads_lf)
        finished = await self._run(event, turn, self._commands[0], environment(event, told, _size(mail)), mail)
        spam = self._options.spam
        if spam is not None:
            if finished.status not in {spam.spam, spam.ham, spam.unsure}:
                raise self._failed(finished)
            said = {spam.spam: "spam", spam.ham: "ham"}.get(finished.status, "unsure")
            event.note(spam=said)
            if said == "spam" and spam.reject:
                return Discard("spam") if spam.reject > 1 else self._refusal("refused as spam")
        elif finished.status != 0:
            return self._judged(finished)
        await self._replace(event, before, finished.output)
        return PROCEED

    async def _qfilter(self, event: Message, before: Blob, turn: Turn) -> Verdict:
        """One after the other; what the last one leaves is what counts."""
        told = first = addresses(event)
        content = before
        mail = await turn.write("mail", before, lf=self._options.reads_lf)
        for number, command in enumerate(self._commands):
            names = [f"{name}-{number}" for name in ("envelope", "new-envelope", "queue")]
            given, taken, queue = [
                await turn.write(name, Bytes(octets), lf=False)
                for name, octets in zip(names, (write_envelope(told), b"", b""), strict=True)
            ]
            words = ("/bin/sh", "-c", _OPENING, "qfilter", str(given), str(taken), str(queue), *command)
            finished = await self._run(event, turn, words, environment(event, told, _size(mail)), mail, shown=command)
            if finished.status != 0:
                return self._judged_by_qmail(finished)
            told = await self._new_envelope(told, turn, taken, queue)
            if finished.output.size or not self._options.empty_is_unchanged:
                content = finished.output
                mail = await turn.write(f"mail-{number}", content, lf=False)
        if not told.recipients:
            return Discard("the program left no recipient")
        edits = changes(event, first, told)
        if content is not before:
            await self._replace(event, before, content)
        self._record(event, edits)
        return PROCEED

    async def _new_envelope(self, told: Addresses, turn: Turn, taken: File, queue: File) -> Addresses:
        """What a filter wrote on descriptor 4, if anything; on 5 there may be nothing."""
        loop = asyncio.get_running_loop()
        new = await loop.run_in_executor(None, read_back, taken, _MOST_ENVELOPE, turn.outside())
        other = await loop.run_in_executor(None, read_back, queue, _MOST_ENVELOPE, turn.outside())
        if new is None or other is None:
            raise ProgramFailed("it took its files away")
        if other.size:
            raise ProgramFailed("it asks for another queue program, and there is none here")
        return read_envelope(new.read()) if new.size else told

    def _judged(self, finished: Finished) -> Verdict:
        """What qmail-multi's and spawn-filter's codes mean, but 0."""
        if finished.status in self._options.discard_codes:
            return Discard(f"{self._name} exited with status {finished.status}")
        if finished.status in REFUSED:
            return self._refusal()
        if finished.status == CUSTOM:
            return self._custom(finished)
        raise self._failed(finished)

    def _judged_by_qmail(self, finished: Finished) -> Verdict:
        """What qmail-qfilter's codes mean, but 0: most go on to qmail-queue's caller."""
        if finished.status == 99:
            return Discard(f"{self._name} exited with status 99")
        if finished.status == CUSTOM:
            return self._custom(finished)
        if finished.status in _PERMANENT:
            return self._refusal()
        if finished.status == _TEMPORARY:
            return Refuse(Reply(451, "4.3.0", self._options.text or "try again later"))
        raise self._failed(finished)

    def _refusal(self, text: str = "refused by a mail filter") -> Refuse:
        return Refuse(self._options.text or text)

    def _custom(self, finished: Finished) -> Refuse:
        """The text from standard error: `D` is for ever, `Z` for now. An enhanced status may begin it."""
        kind, text = finished.words[:1], finished.words[1:].strip()
        if kind not in {"D", "Z"}:
            raise ProgramFailed(f"it exited with status {CUSTOM}, but said neither D nor Z: {finished.words[:200]!r}")
        code, status = (554, "5.7.1") if kind == "D" else (451, "4.7.1")
        if found := re.match(rf"({status[0]}\.\d{{1,3}}\.\d{{1,3}})\s+", text, re.ASCII):
            status, text = found[1], text[found.end() :]
        return Refuse(Reply(code, status, text))

    # ── scanners ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _scan(self, event: Message, before: Blob, turn: Turn) -> Verdict:
        options = self._options
        mail = await turn.write("mail", before, lf=options.reads_lf)
        variables = environment(event, addresses(event), _size(mail))
        finished = await self._run(event, turn, self._commands[0], variables, mail, needs_all=False)
        first = finished.output.read(0, 1000).decode("utf-8", "replace").partition("\n")[0].strip()
        event.note(exit=finished.status, **({"said": first} if first else {}))
        if finished.status in options.error_codes:
            raise ProgramFailed(f"it exited with status {finished.status}, one of its errors")
        if finished.status not in options.hit_codes:
            return PROCEED
        reason = f"{self._name} exited with status {finished.status}"
        match options.action:
            case "refuse":
                return self._refusal("refused by a scanner")
            case "quarantine":
                return Quarantine(reason)
            case "discard":
                return Discard(reason)
            case "tag":
                self._record(event, [AddHeader(*options.tag)])
                return PROCEED

    # ── MailEnable's pickup ────────────────────────────────────────────────────────────────────────────────────────

    async def _pickup(self, event: Message, before: Blob, turn: Turn) -> Verdict:
        options, loop = self._options, asyncio.get_running_loop()
        told, name = addresses(event), new_name()
        inbound = INBOUND.format(connector=options.connector)
        turn.make_folder(f"{inbound}/Messages")
        command = command_file(event, told, name)
        envelope = await turn.write(f"{inbound}/{name}", Bytes(command), lf=False)
        mail = await turn.write(f"{inbound}/Messages/{name}", before, lf=options.reads_lf)
        variables = environment(event, told, _size(mail)) | {"GATEPOST_PICKUP": str(turn.folder)}
        words = (*self._commands[0], name, options.connector)
        finished = await self._run(event, turn, words, variables, None, needs_all=False)
        if finished.status != 0 and options.nonzero == "retry":
            raise self._failed(finished)
        left = await loop.run_in_executor(None, read_back, envelope, _MOST_ENVELOPE, turn.outside())
        content = await loop.run_in_executor(None, read_back, mail, options.output_size, turn.outside())
        if left is None:
            return Discard(f"{self._name} took it away")
        if content is None:
            raise ProgramFailed("it took the message file away, but left the command file")
        after = told if (now := left.read()) == command else read_command_file(now, told)
        if not after.recipients:
            return Discard("the program left no recipient")
        edits = changes(event, told, after)
        await self._replace(event, before, content)
        self._record(event, edits)
        if finished.status != 0 and options.nonzero == "hold":
            return Quarantine(f"{self._name} exited with status {finished.status}")
        return PROCEED

    # ── what the modes share ───────────────────────────────────────────────────────────────────────────────────────

    async def _run(
        self,
        event: Message,
        turn: Turn,
        command: Sequence[str],
        variables: Mapping[str, str],
        stdin: File | None,
        *,
        needs_all: bool = True,
        shown: Sequence[str] | None = None,
    ) -> Finished:
        """One call, told to whoever listens. `command` is run as it is, but for the place of the message's file."""
        words = self._placed(command, stdin)
        most = self._options.output_size if needs_all else _MOST_SAID
        returned = "was ended: its time was over"
        try:
            finished = await turn.run(words, {**self._base, **variables}, stdin, most=most, needs_all=needs_all)
            returned = f"exited with status {finished.status}, {finished.output.size} octets on standard output"
            if finished.words:
                returned += f"\n{finished.words}"
        except (ProgramFailed, OSError) as error:
            returned = str(error)
            raise
        finally:
            passed = told_in_words(self._placed(shown or command, stdin), variables)
            self._tell(Exchange(self._name, event.name, passed, returned))
        if finished.status in NOT_STARTED:
            raise ProgramFailed(f"it couldn't be begun: {finished.words.strip()[:200] or finished.status}")
        return finished

    def _failed(self, finished: Finished) -> ProgramFailed:
        words = finished.words.strip().rpartition("\n")[2][:200]
        return ProgramFailed(f"it exited with status {finished.status}" + (f"; it said last: {words}" if words else ""))

    def _placed(self, words: Sequence[str], file: File | None) -> list[str]:
        """The words, with the path of the message's file where it belongs."""
        path = "" if file is None else quote(str(file)) if self._options.shell else str(file)
        return [word.replace(PLACE, path) for word in words]

    async def _replace(self, event: Message, before: Blob, content: Blob) -> None:
        """The content instead of the message's, if it is another. ProgramFailed for none at all."""
        if not content.size:
            if self._options.empty_is_unchanged:
                return
            raise ProgramFailed("it succeeded, but gave back nothing")
        if content.size <= SMALL >= before.size:
            after: Blob = Bytes(b"".join(crlf([content.read()])))
            told = _told(before, after)
        else:
            loop = asyncio.get_running_loop()
            after = await loop.run_in_executor(None, _kept, content, self._runner.kept_file())
            told = await loop.run_in_executor(None, _told, before, after)
        if told is not None:
            self._record(event, [ReplaceMessage(after, told)])
            keep(after, event.transaction)

    def _record(self, event: Message, edits: Sequence[Edit]) -> None:
        for edit in edits:
            event.turn.record(edit)


def _size(file: File) -> int:
    return file.stat().st_size


def _kept(content: Blob, file: File) -> Blob:
    """The content in a file that outlives its turn, with CRLF at every line's end. OSError, and then there is none."""
    try:
        with file.open("xb") as stream:
            size = sum([stream.write(piece) for piece in crlf(content.chunks())])
    except OSError:
        file.unlink(missing_ok=True)
        raise
    return OwnFile(file, size)


def _told(before: Blob, after: Blob) -> tuple[str, ...] | None:
    """What is different, in words; None if nothing is."""
    if before.size == after.size:
        places = range(0, before.size, _PIECE)
        if all(before.read(at, _PIECE) == after.read(at, _PIECE) for at in places):
            return None
    return differences(before, after) or ("header fields in another order",)
