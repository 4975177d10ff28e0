"""End-of-data: what the chain has left becomes durable, and the reply says so. Pure until the commit.

`plan` turns every recipient's verdict into what happens to the mail and what the client hears; the commit is one step
for all of it. A message that is wanted for some and refused for others is divided where the client can hear several
replies (LMTP, PRDR), and otherwise goes by `recipients_disagree`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from gatepost.hooks.effects import EFFECTS
from gatepost.hooks.replies import MAX_LINE, refusal
from gatepost.hooks.session import Standing
from gatepost.hooks.stages import Event, Message
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import PROCEED, Discard, Hangup, Quarantine, Refuse, Take, Verdict
from gatepost.model import ContentEdit, Recipient, Reply, fact
from gatepost.serving.place import Disagreement, Refusals


class Fate(Enum):
    """What becomes of the message for one recipient."""

    __hash__ = object.__hash__  # Enum's own is a Python function

    QUEUE = "queued"
    HOLD = "held"
    DISCARD = "discarded"
    TAKE = "taken"
    REFUSE = "refused"


@fact
class Decision:
    """One recipient's fate, why, and who decided; `reply` only for a refusal."""

    fate: Fate
    by: str
    reason: str = ""
    reply: Reply | None = None


_QUEUE, _HOLD, _REFUSE = Fate.QUEUE, Fate.HOLD, Fate.REFUSE
QUEUED = Decision(_QUEUE, "house")


@dataclass(slots=True)
class Plan:
    """What is to happen. `refusal` is what everybody hears; None if each recipient's decision counts."""

    decisions: dict[Recipient, Decision] = field(default_factory=dict)
    fates: dict[Fate, list[Recipient]] = field(default_factory=dict)
    """The recipients by their fate, each list in order; no fate without a recipient."""
    refusal: Reply | None = None
    closes: bool = False

    def having(self, fate: Fate) -> Sequence[Recipient]:
        """The recipients with that fate, in order."""
        return self.fates.get(fate, ())

    def sort(self) -> None:
        """Make `fates` what the decisions say."""
        self.fates = {}
        for recipient, decision in self.decisions.items():
            self.fates.setdefault(decision.fate, []).append(recipient)

    def told(self) -> dict[str, list[str]]:
        """For the trace: fate, who decided and why, of each recipient for whom the message isn't simply queued."""
        if self.fates.keys() == {_QUEUE}:
            return {}
        return {
            str(recipient): [decision.fate.value, decision.by, decision.reason or str(decision.reply or "")]
            for recipient, decision in list(self.decisions.items())[:100]
            if decision.fate is not _QUEUE
        }


def plan(
    each: Mapping[Recipient, tuple[Verdict, str]],
    *,
    sticking: tuple[Standing, Standing],
    standings: Mapping[Recipient, Standing],
    token: str,
    verbatim: Callable[[str], bool],
    heard_singly: bool,
    disagreement: Disagreement,
    refusals: Refusals = Refusals.SAID,
) -> Plan:
    """What the verdicts come to. `sticking`: what earlier stages left for the session and the transaction; `verbatim`:
    whether what this plugin says leaves as it is."""
    made = Plan()
    is_free = not standings and not any(standing.quarantine or standing.discard for standing in sticking)
    for recipient, (verdict, by) in each.items():
        if verdict is PROCEED and is_free:  # as for nearly every message
            made.decisions[recipient] = QUEUED if by == "house" else Decision(_QUEUE, by)
            continue
        standing = standings.get(recipient)
        stuck = sticking if standing is None else (*sticking, standing)
        made.decisions[recipient] = decide(verdict, by, stuck, token, verbatim)
        if isinstance(verdict, Hangup):
            made.closes = True
    made.sort()
    refused = made.having(_REFUSE)
    if not refused:
        return made
    if refusals is not Refusals.SAID:
        return _unsaid(made, refused, refusals)
    first = made.decisions[refused[0]].reply
    if made.closes or len(refused) == len(made.decisions):
        made.refusal = None if heard_singly and not made.closes else gravest(made, refused)
    elif not heard_singly:
        if disagreement is Disagreement.HOLD_OTHERS:
            for recipient in refused:
                before = made.decisions[recipient]
                reason = "refused, but wanted by others" if before.reply is None else before.reply.text
                made.decisions[recipient] = Decision(Fate.HOLD, before.by, reason)
            made.sort()
        else:
            made.refusal = gravest(made, refused) or first
    return made


def _unsaid(made: Plan, refused: Sequence[Recipient], refusals: Refusals) -> Plan:
    """Nobody is there to hear a refusal for good; one for now is for all, and everything is tried again."""
    replies = {recipient: made.decisions[recipient].reply for recipient in refused}
    later = [one for one, reply in replies.items() if reply is not None and not reply.is_permanent]
    if later:
        made.refusal = gravest(made, later)
        return made
    fate = _HOLD if refusals is Refusals.HELD else Fate.DISCARD
    for recipient, reply in replies.items():
        made.decisions[recipient] = Decision(fate, made.decisions[recipient].by, f"refused: {reply}")
    made.sort()
    return made


def decide(
    verdict: Verdict, by: str, stuck: tuple[Standing, ...], token: str, verbatim: Callable[[str], bool]
) -> Decision:
    """One recipient's decision: the verdict, unless something graver sticks from earlier stages."""
    match verdict:
        case Refuse(said):
            return Decision(Fate.REFUSE, by, "", stage_refusal(Message, said, token, verbatim(by)))
        case Hangup(reply):
            return Decision(Fate.REFUSE, by, "", refusal(reply, code=421, status="4.7.0", token=token))
        case Take(reason):
            return Decision(Fate.TAKE, by, reason)
        case Discard(reason):
            return Decision(Fate.DISCARD, by, reason)
        case _:
            pass
    for standing in stuck:
        if standing.discard is not None:
            return Decision(Fate.DISCARD, "earlier", standing.discard)
    if isinstance(verdict, Quarantine):
        return Decision(Fate.HOLD, by, verdict.reason)
    for standing in stuck:
        if standing.quarantine is not None:
            return Decision(Fate.HOLD, "earlier", standing.quarantine)
    return Decision(Fate.QUEUE, by)


def parts(
    transaction: Transaction, made: Plan, handed: Collection[Recipient]
) -> Iterator[tuple[tuple[Recipient, ...], Sequence[ContentEdit], str | None]]:
    """What is kept apart: recipients with the same content and fate, the edits, and why it is held if it is.

    Those `handed` to another server aren't kept, unless they are held.
    """
    for members, edits in transaction.groups():
        by_reason: dict[str | None, list[Recipient]] = {}
        for recipient in members:
            decision = made.decisions.get(recipient)
            if decision is None:
                continue
            if decision.fate is _HOLD:
                by_reason.setdefault(decision.reason or "held", []).append(recipient)
            elif decision.fate is _QUEUE and recipient not in handed:
                by_reason.setdefault(None, []).append(recipient)
        for reason, recipients in by_reason.items():
            yield tuple(recipients), edits, reason


def discards(transaction: Transaction, made: Plan) -> list[tuple[object, ...]]:
    """The records of what is thrown away: ticket, sender, recipient, by whom and why."""
    if transaction.recipients and Fate.DISCARD not in made.fates:
        return []
    whose = [(one, each.by, each.reason) for one, each in made.decisions.items() if each.fate is Fate.DISCARD]
    if not transaction.recipients:
        whose += [(recipient, "a plugin", "taken out") for recipient in transaction.removed]
    ticket, sender = str(transaction.ticket), str(transaction.sender)
    return [("discarded", ticket, sender, str(recipient), by, reason) for recipient, by, reason in whose]


def gravest(made: Plan, refused: Sequence[Recipient]) -> Reply | None:
    """Of several refusals the one to say to all: 421 before 5xx before 4xx, the first of its kind."""
    replies = [reply for recipient in refused if (reply := made.decisions[recipient].reply) is not None]
    return min(replies, key=lambda reply: (reply.code != 421, not reply.is_permanent), default=None)


def stage_refusal(stage: type[Event], said: Reply | str, token: str, verbatim: bool = False) -> Reply:
    """A refusal as it is said at a stage: its own code where none was given."""
    effect = EFFECTS[(stage, Refuse)]
    return refusal(said, code=effect.code, status=effect.status, token=token, verbatim=verbatim)


def each_hears(
    heard: Sequence[Recipient], decisions: Mapping[Recipient, Decision], reply: Reply
) -> tuple[list[Reply], Reply]:
    """One reply for each RCPT that was answered with 250, in order, and the final one of PRDR."""
    found = (decisions.get(recipient) for recipient in heard)
    each = [reply if one is None or one.reply is None else one.reply for one in found]
    return each, reply if any(said.is_positive for said in each) or not each else each[0]


def with_ticket(reply: Reply, ticket: str) -> Reply:
    """The reply with the ticket at its end, for which the text makes room."""
    room = MAX_LINE - len("250 ") - len(reply.status) - len(" , ") - len(ticket)
    before, newline, last = reply.text.rpartition("\n")
    if len(last) * 4 > room:
        last = last.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
    return reply.with_text(f"{before}{newline}{last}, {ticket}")
