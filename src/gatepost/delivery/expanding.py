"""Aliases: an entry for an address that stands for others goes on as new entries for those.

Strategy: it happens between the stages submitted and expanded. Who is meant is found out first; then everything is one
settlement: the aliases leave, and new entries for their targets are committed with it. So a crash before it begins
anew, and one after it never does. Who is in the entry anyway stays in it, and isn't written to twice. What goes on says
so in its facts and isn't looked at again; a Delivered-To field on top says so to servers elsewhere, and to us where it
comes back from them: that is a loop, and fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatepost.content.headers import read_section
from gatepost.content.pieces import Rendered, Span
from gatepost.delivery.notice import Answer
from gatepost.delivery.ports import Aliases
from gatepost.delivery.settlement import Arrival, Result, Settlement
from gatepost.delivery.submission import ASKED, PARTS
from gatepost.delivery.texts import facts_of
from gatepost.hooks.stages import Expanded, Submitted
from gatepost.model import Blob, Bytes, Envelope, Path, Recipient, Reply, xtext
from gatepost.store import Deposit, Entry, Fate, RecipientOutcome

ALIASED = "aliased"
"""The fact of an entry that comes from an alias: "on", or "loop" where it has been there before."""
_FIRST = PARTS // 2  # of the parts that one entry may become, those behind it are for aliases
_MANY = 100  # targets in an entry
_LOOP = Reply(554, "5.4.6", "this message has been at this address before: it goes round in a loop")  # rfc3463#3.5


@dataclass(frozen=True, slots=True)
class Expansion:
    """Who of an entry's recipients are aliases, and for whom."""

    targets: Mapping[Recipient, Sequence[Path]]

    def settled(self, entry: Entry, now: float) -> Settlement:
        """The settlement of it, at `now` (s, Unix time): who is no alias is due at once."""
        here = entry.envelope.recipients
        staying = tuple(one for one in here if one not in self.targets)
        taken = {_key(one.path) for one in staying}
        results: list[Result] = []
        deposits: list[Deposit] = []
        for alias, targets in self.targets.items():
            if has_looped := _has_been_at(entry.content, alias.path):
                deposits.append(_deposit(entry, len(deposits), (alias,), entry.content, "loop"))
            further = [] if has_looped else [one for one in targets if _key(one) not in taken]
            taken.update(map(_key, further))
            if further:
                deposits += _onward(entry, alias, further, len(deposits))
            to = ", ".join(map(str, targets[:5])) + (", …" if len(targets) > 5 else "")
            reply = Reply(250, "2.1.5", f"goes on to {to}")
            results.append(Result(alias, Fate.DONE, reply, arrival=Arrival.PASSED_ON))
        outcomes = [RecipientOutcome(one.recipient, one.fate, one.said) for one in results]
        outcomes += [RecipientOutcome(one, Fate.LATER, entry.said.get(one.address, "")) for one in staying]
        notes = {**entry.notes, ASKED: Submitted.name} if staying and ASKED in entry.notes else None
        next_attempt = now if staying else None
        return Settlement(tuple(results), tuple(outcomes), next_attempt, None, tuple(deposits), Answer.HOLD, notes)


async def expansion(entry: Entry, aliases: Aliases) -> Expansion | None:
    """What becomes of an entry that was taken up; None where nobody in it is an alias, or it comes from one."""
    if ALIASED in entry.facts:
        return None
    found = {}
    for recipient in entry.envelope.recipients:
        if (targets := await aliases.targets(recipient.path)) is not None:
            found[recipient] = targets
    return Expansion(found) if found else None


def looped(entry: Entry) -> list[Result]:
    """What an attempt of an entry comes to that has been at its alias before; nothing if it hasn't."""
    if entry.facts.get(ALIASED) != "loop":
        return []
    return [Result(one, Fate.FAILED, _LOOP, is_ours=True) for one in entry.envelope.recipients]


def _onward(entry: Entry, alias: Recipient, targets: Sequence[Path], count: int) -> list[Deposit]:
    """The new entries of an alias."""
    parameters = _parameters(alias)
    recipients = [Recipient(target, parameters) for target in targets]
    top = f"Delivered-To: {alias.address}\r\n".encode()
    content = Rendered([Span(Bytes(top), 0, len(top)), Span(entry.content, 0, entry.content.size)])
    groups = [recipients[at : at + _MANY] for at in range(0, len(recipients), _MANY)]
    utf8 = alias.path.needs_smtputf8  # which stands in the content now
    return [_deposit(entry, count + number, group, content, "on", utf8=utf8) for number, group in enumerate(groups)]


def _deposit(
    entry: Entry, number: int, recipients: Sequence[Recipient], content: Blob, how: str, *, utf8: bool = False
) -> Deposit:
    envelope = entry.envelope
    utf8 = utf8 or envelope.smtputf8 or any(one.path.needs_smtputf8 for one in recipients)
    passed = Expanded.name if entry.attempts else Submitted.name
    return Deposit(
        entry.ticket,
        Envelope(envelope.sender, tuple(recipients), envelope.body, utf8, envelope.parameters),
        content,
        entry.received_at,
        authenticated=entry.authenticated,
        part=(entry.part + 1) * PARTS + _FIRST + number,
        facts={**facts_of(entry), ASKED: passed, ALIASED: how},
    )


def _parameters(alias: Recipient) -> Mapping[str, str]:
    """What the sender wants to hear of is known of the targets too, by the address that he has written to."""
    if not alias.parameters or "ORCPT" in alias.parameters or alias.path.needs_smtputf8:
        return alias.parameters
    return {**alias.parameters, "ORCPT": f"rfc822;{xtext.encode(alias.address)}"}  # rfc3461#5.2.7


def _has_been_at(content: Blob, address: Path) -> bool:
    wanted = address.address.lower().encode()
    return any(value.strip().lower() == wanted for value in read_section(content).raw_values("delivered-to"))


def _key(path: Path) -> str:
    return path.address.lower()
