"""From what plugins say on the way out to what the client machine does. Pure, and one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

from gatepost.hooks import stages
from gatepost.hooks import verdicts as v
from gatepost.hooks.effects import EFFECTS
from gatepost.hooks.replies import safe_text
from gatepost.model import Reply
from gatepost.wire.smtp.client_events import (
    AskAgain,
    EndSession,
    GiveUp,
    Go,
    JumpTo,
    LeaveOut,
    Phase,
    SendOctets,
    Step,
)

LEFT = Reply(451, "4.3.0", "left for the next attempt")

OWN_STAGE: Mapping[Phase, type[stages.Event]] = MappingProxyType(
    {
        Phase.RECIPIENT: stages.OutRecipient,
        Phase.DATA: stages.OutData,
        Phase.CONTENT: stages.OutData,  # BDAT, before its first chunk
        Phase.QUIT: stages.OutQuit,
    }
)
"""The stage of a command, beside `out-command`. MAIL's is asked before the machine hears of the message."""

COMMANDS = frozenset(
    {
        *(Phase.HELLO, Phase.TLS, Phase.AUTH, Phase.INTRODUCTION, Phase.RESET),
        *(Phase.SENDER, Phase.RECIPIENT, Phase.DATA, Phase.QUIT),
    }
)
"""The phases in which there is a command to ask about; who asks for DATA sees BDAT too."""

_TARGETS = {v.Target.MESSAGE: Phase.SENDER, v.Target.DATA: Phase.DATA, v.Target.QUIT: Phase.QUIT}


def step_of(verdict: v.Verdict, stage: type[stages.Event]) -> Step:
    """What the machine does for a verdict at a stage. TypeError for a verdict that isn't an outbound one."""
    match verdict:
        case v.Proceed():
            return Go()
        case v.Send(line):
            return Go(line)
        case v.Skip():
            return LeaveOut()
        case v.Blob(data):
            return SendOctets(data)
        case v.Repeat(line):
            return AskAgain(line or None)
        case v.Jump(to):
            return JumpTo(_TARGETS[to])
        case v.Fail(reply):
            return GiveUp(failure(reply, stage))
        case v.EndSession(reply):
            return EndSession(end(reply))
        case (
            v.Accept()
            | v.Refuse()
            | v.Quarantine()
            | v.Discard()
            | v.Take()
            | v.Hangup()
            | v.Respond()
            | v.Converse()
            | v.Identity()
            | v.Credentials()
            | v.Deny()
        ):
            raise TypeError(f"{type(verdict).__name__} isn't said on the way out")
        case _:
            assert_never(verdict)


def failure(said: Reply | str, stage: type[stages.Event]) -> Reply:
    """The reply of a Fail, as one that may be shown and reported; a text alone has the stage's own code."""
    if isinstance(said, str):
        effect = EFFECTS[(stage, v.Fail)]
        return Reply(effect.code, effect.status, safe_text(said) or "refused here")
    status = said.status or f"{said.code // 100}.7.1"
    return Reply(said.code, status, safe_text(said.text) or "refused here")


def end(said: Reply | str) -> Reply:
    """The reply of an EndSession; a text alone is a reason to come back later."""
    if isinstance(said, str):
        return Reply(451, "4.3.0", safe_text(said) or LEFT.text)
    return Reply(said.code, said.status or f"{said.code // 100}.3.0", safe_text(said.text) or LEFT.text)
