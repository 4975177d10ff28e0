"""How a hook is called and what its answer means. Whatever a plugin does here ends in a value or in one exception.

A hook may be a plain function or a coroutine function; it may raise anything, even what ends programs, and answer
anything. What isn't an answer at its stage is an AnswerError, which goes the way of every other failure.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from types import CoroutineType
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.effects import complaint
from gatepost.hooks.ports import Patience
from gatepost.hooks.verdicts import PROCEED, Verdict
from gatepost.model import AddRecipient, Edit, Recipient


class AnswerError(TypeError):
    """A hook's answer isn't one; treated like any other failure."""


def understand(
    answer: Any,
    stage: type[stages.Event],
    subjects: Sequence[Recipient],
    known: Container[Recipient] | None,
    edits: Sequence[Edit],
    never: tuple[type, ...],
) -> Verdict | dict[Recipient, Verdict]:
    """The verdict, or at `message` each recipient's; AnswerError if it is none, or one that the settings rule out.

    `subjects` are those asked about, `known` all of the message (None at other stages), who may be named as well as
    those whom the answer's own edits add.
    """
    if answer is None:
        return PROCEED
    if not isinstance(answer, Mapping):
        _check(stage, answer, never)
        verdict: Verdict = answer
        return verdict
    if known is None:
        where = ", ".join(f'"{one.name}"' for one in stages.STAGES.values() if one in stages.PER_RECIPIENT)
        raise AnswerError(f'a verdict for each recipient is for {where} only, not "{stage.name}"')
    added = [edit.recipient for edit in edits if isinstance(edit, AddRecipient)]
    asked = {*subjects, *added}
    each: dict[Recipient, Verdict] = {}
    for recipient, one in answer.items():
        if recipient not in known and recipient not in added:
            raise AnswerError(f"{recipient!s} isn't a recipient of this message")
        if one is not None:
            _check(stage, one, never)
            if recipient in asked:
                each[recipient] = one
    return each


def without_secrets(line: str) -> str:
    """The command line for those who mustn't see passwords: what follows AUTH's mechanism, or PASS, is hidden."""
    words = line.split(None, 2)
    match words[0].upper() if words else "":
        case "AUTH" if len(words) > 2:
            return f"{words[0]} {words[1]} ***"
        case "PASS":
            return f"{words[0]} ***"
        case _:
            return line


class Suspended:
    """A hook that didn't answer at its first step, and what it waits for."""

    __slots__ = ("_hook", "_waiting_for")

    def __init__(self, hook: CoroutineType[Any, Any, Any], waiting_for: Any) -> None:
        self._hook = hook
        self._waiting_for = waiting_for

    async def answer(self, seconds: float, patience: Patience) -> Any:
        """Its answer, with patience. TimeoutError."""
        return await patience.within(seconds, self._hook, self._waiting_for)


def called(hook: Callable[[stages.Event], Any], event: stages.Event) -> Any:
    """The hook's answer; Suspended if it doesn't answer at its first step."""
    try:
        answer = hook(event)
        if type(answer) is not CoroutineType:
            return answer
        try:
            waiting_for = answer.send(None)
        except StopIteration as stop:
            return stop.value
    except GeneratorExit as error:  # which would look like the end of the session
        raise AnswerError("the hook raised GeneratorExit") from error
    return Suspended(answer, waiting_for)


async def preparing(prepare: Callable[[stages.Event], Any], event: stages.Event) -> Any:
    """A preparation's result; whatever it raises is heard by whoever awaits it, and harms nobody else."""
    try:
        found = prepare(event)
        return await found if inspect.isawaitable(found) else found
    except (SystemExit, GeneratorExit) as error:
        raise AnswerError(f"the preparation raised {type(error).__name__}") from error


def _check(stage: type[stages.Event], verdict: object, never: tuple[type, ...]) -> None:
    if wrong := complaint(stage, verdict):
        raise AnswerError(wrong)
    if isinstance(verdict, never):
        raise AnswerError(f"the settings promise: never {type(verdict).__name__.lower()}")
