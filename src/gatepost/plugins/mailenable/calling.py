"""One call of `Execute`, from an event to what it comes to: text in, number and text out, and the message's file.

The file is written anew for each call, closed, and whole. What the plugin leaves in its place is the message from there
on, if it returned success; a plugin that fails, whatever it has written, has written nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from gatepost.content.difference import changed
from gatepost.hooks import stages
from gatepost.hooks.answers import AnswerError
from gatepost.hooks.stages import Event
from gatepost.hooks.verdicts import PROCEED, Refuse, Verdict
from gatepost.model import Blob, ReplaceMessage, Reply
from gatepost.plugins.host.keeping import keep
from gatepost.plugins.loaded import Exchange, Loaded
from gatepost.plugins.mailenable.answers import describe, understand
from gatepost.plugins.mailenable.configuration import passing, pending
from gatepost.plugins.mailenable.options import MailEnableOptions
from gatepost.wire.host import Answer

SUFFIX = ".MAI"
TOO_LARGE = Reply(552, "5.3.4", "the message is too large as a plugin has changed it")
_AT_ONCE = 64 * 1024  # octets that are compared in the loop


class Asks(Protocol):
    """Who asks the plugin's processes: plugins.host.Crew."""

    async def exchange(
        self, event: Event, facts: Any, *, content: Blob | None = None, suffix: str = ""
    ) -> tuple[Answer, Blob | None]: ...


class Calling:
    """The hook of every stage of one plugin."""

    def __init__(self, crew: Asks, options: MailEnableOptions, message_size: int) -> None:
        """`message_size`: the most octets a message may have; 0 for no limit."""
        self._crew = crew
        self._options = options
        self._message_size = message_size
        self.loaded: Loaded | None = None

    async def __call__(self, event: stages.Transaction) -> Verdict:
        """The plugin's verdict. Raises what is a failure: crash, time over, an answer that is none."""
        call = _Call(event, self._options)
        content = event.message.blob if isinstance(event, stages.Message) else None
        try:
            answer, rewritten = await self._crew.exchange(event, call.facts, content=content, suffix=SUFFIX)
            call.hear(answer)
            meaning = understand(call.returned, call.response, call.prefilled, type(event))
            event.note(execute=describe(call.returned, call.response, call.prefilled))
            verdict: Verdict = meaning.verdict
            if rewritten is not None and content is not None and verdict is PROCEED:
                verdict = await self._take(event, content, rewritten)
        except Exception as error:
            self._tell(call, f"failed: {error}" if call.returned is None else f"{call.outcome}; failed: {error}")
            raise
        if meaning.text is not None:
            event.say(meaning.text)
        self._tell(call, call.outcome)
        return verdict

    async def _take(self, event: stages.Transaction, before: Blob, after: Blob) -> Verdict:
        """The file as the plugin has left it becomes the message."""
        if not after.size:
            raise AnswerError("the message's file is empty, and a success was returned")
        if 0 < self._message_size < after.size:
            return Refuse(TOO_LARGE)
        if max(before.size, after.size) <= _AT_ONCE:
            changes = changed(before, after)
        else:
            changes = await asyncio.get_running_loop().run_in_executor(None, changed, before, after)
        if changes is not None:
            event.turn.record(ReplaceMessage(after, changes))
            keep(after, event.transaction)
        return PROCEED

    def _tell(self, call: _Call, returned: str) -> None:
        loaded = self.loaded
        if loaded is not None and loaded.on_exchange is not None:
            loaded.on_exchange(Exchange(loaded.name, call.event.name, call.passed, returned))


class _Call:
    """One call's text, as passed and as returned."""

    def __init__(self, event: stages.Transaction, options: MailEnableOptions) -> None:
        self.event = event
        self.passed = ""
        self.returned: Any = None
        self.response = ""
        self._options = options
        self._charset = options.charset
        self._pending = pending(event.reply)
        self._reply = self._pending.encode(self._charset, "replace")[: options.response_size - 1]
        self.prefilled = self._reply.decode(self._charset, "replace")

    def facts(self, path: str | None) -> dict[str, Any]:
        """What the host passes, for a file at `path`."""
        self.passed = passing(self.event, self._options, self._pending, path)
        return {"configuration": self.passed.encode(self._charset, "replace"), "response": self._reply}

    def hear(self, answer: Answer) -> None:
        """AnswerError if the host has said something else."""
        returned, response = answer.verdict.get("returned"), answer.verdict.get("response")
        if type(returned) is not int or type(response) is not bytes:
            raise AnswerError(f"its host answered nonsense: {str(answer.verdict)[:80]}")
        self.returned, self.response = returned, response.decode(self._charset, "replace")

    @property
    def outcome(self) -> str:
        """For whoever debugs the plugin: the number, and the whole response with its line ends."""
        if self.response.strip() == self.prefilled:
            return f"{self.returned}, response untouched"
        return f"{self.returned}, response {self.response!r}"
