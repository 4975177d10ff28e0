"""Plugins around delivery, without a server: hooks bound as they would be, and a record of what was decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gatepost.delivery import Destinations, Dialer, Relay, Security
from gatepost.delivery.attempt import Letter
from gatepost.delivery.outbound import Surroundings, about, asked
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.questions import Question
from gatepost.hooks.session import ServerView, Session
from gatepost.hooks.verdicts import PROCEED, Verdict
from gatepost.model import Body, Bytes, Path, Recipient, Ticket, token_at
from gatepost.plugins.python import load
from gatepost.serving.patience import LoopPatience, SystemClock
from gatepost.testing.rig import Records
from unit.delivery.delivery_peer import Peer, polite

TICKET = Ticket(token_at(1_800_000_000_000, 0, 7), 3)
CONTENT = b"Subject: x\r\n\r\nhello\r\n"
ANN, BOB = Recipient(Path.parse("ann@d.example")), Recipient(Path.parse("bob@d.example"))
TAKEN = [250, 250]
LEFT = [451, 451]


class NoHouse:
    """A house that has nothing to say, but about recipients in closed.example."""

    stages: frozenset[Any] = frozenset()

    def ask(self, question: Question, *, may_relay: bool) -> Verdict:
        return PROCEED

    def admits(self, session: Session, recipient: Recipient) -> str | None:
        return "its route isn't open to this client" if recipient.domain == "closed.example" else None


class Plugins:
    """What a worker has of plugins. `hooks` may be changed between questions, as a reload would."""

    def __init__(self, *hooks: Callable[..., Any], budget_s: float = 5.0) -> None:
        self.records = Records()
        self.patience = LoopPatience()
        self._budget_s = budget_s
        self.bind(*hooks)
        self.around = Surroundings("me.example", lambda: self.dispatcher, self.patience, self.records)

    def bind(self, *hooks: Callable[..., Any]) -> None:
        """These, and no others any more."""
        clock = SystemClock()
        self.dispatcher = Dispatcher(
            [binding for hook in hooks for binding in load(hook).bindings],
            server=ServerView("me.example", clock),
            house=NoHouse(),
            clock=clock,
            patience=self.patience,
            recorder=self.records,
            budget=lambda stage: self._budget_s,
        )

    @property
    def asked(self) -> Sequence[str]:
        """The stages of every answer, in order."""
        return [facts["stage"] for facts in self.records.kinds("asked")]


def letter(*recipients, sender="a@b.example", content=CONTENT, body=Body.SEVEN_BIT):
    return Letter(Path.parse(sender), recipients or (ANN, BOB), Bytes(content), body)


class Sent:
    """What became of a message, and what the next server heard."""

    def __init__(self, answers, peer, plugins):
        self.codes = [answer.outcome.reply.code for answer in answers]
        self.texts = [answer.outcome.reply.text for answer in answers]
        self.lines = [line for connection in peer.heard for line in connection]
        self.mail = peer.mail
        self.records = plugins.records
        self.errors = plugins.records.errors

    def verbs(self):
        return [line.split(" ")[0] for line in self.lines if line != "."]


async def send(plugins, peer, what=None, hop=None):
    """One message with plugins bound, to a peer that is there already."""
    about.set(TICKET)
    destinations = Destinations(Dialer("me.example", outbound=lambda: asked(plugins.around)))
    try:
        hop = hop or Relay((peer.host,), Security.NONE)
        answers = await destinations.deliver(hop, what or letter())
    finally:
        await destinations.close()
    await plugins.patience.idle()
    return Sent(answers, peer, plugins)


async def sent(*hooks, script=None, what=None):
    plugins = Plugins(*hooks)
    async with Peer(script or polite()) as peer:
        return await send(plugins, peer, what)
