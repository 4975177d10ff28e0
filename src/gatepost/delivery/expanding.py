"""Aliases: an entry for an address that stands for others goes on as new entries for those.

Strategy: it happens between the stages submitted and expanded. Who is meant is found out first; then everything is
one settlement: the aliases leave, and new entries for their targets are committed with it. So a crash before it
begins anew, and one after it never does. Who is in the entry anyway stays in it, and no maildrop gets a second copy
by an alias. Where an alias is for one, what the sender wants to hear goes on with it; where it is for several he
hears that it went on, and later only of failures (rfc3461#5.2.7). What goes on says so in its facts and isn't looked
at again; a Delivered-To field on top says so to servers elsewhere, and to us where it comes back from them: that is a
loop, and fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from gatepost.content.headers import read_section
from gatepost.content.pieces import Rendered, Span
from gatepost.delivery.notice import Answer, Occasion, Policy, wants
from gatepost.delivery.ports import Aliases
from gatepost.delivery.settlement import Arrival, Result, Settlement
from gatepost.delivery.submission import ASKED, PARTS
from gatepost.delivery.texts import facts_of
from gatepost.hooks.stages import Expanded, Submitted
from gatepost.model import Blob, Bytes, Envelope, Path, Recipient, Reply, xtext
from gatepost.store import Deposit, Entry, Fate, RecipientOutcome

ALIASED = "aliased"
"""The fact of an entry that comes from an alias: "on", or "loop" where it has been there before."""
GONE_ON = "gone-on"
"""The note of how many entries have come of one by aliases: a reload may make an alias of who still waits."""
_FIRST = PARTS // 2  # of the parts that one entry may become, those behind it are for aliases
_MANY = 100  # targets in an entry
_LOOP = Reply(554, "5.4.6", "this message has been at this address before: it goes round in a loop")  # rfc3463#3.5


@dataclass(frozen=True, slots=True)
class Expansion:
    """Who of an entry's recipients are aliases, and for whom; `people` tells whose mail that of each target, and of
    every other recipient, is.
    """

    targets: Mapping[Recipient, Sequence[Path]]
    people: Mapping[Path, str]
    was_asked: bool = False
    """Whether plugins were asked at `expanded` about the entry before: those who stay in it aren't again."""

    def settled(self, entry: Entry, now: float, policy: Policy) -> Settlement:
        """The settlement of it, at `now` (s, Unix time): who is no alias is due at once."""
        here = entry.envelope.recipients
        staying = tuple(one for one in here if one not in self.targets)
        taken = {self.people[one.path] for one in staying}
        results: list[Result] = []
        deposits: list[Deposit] = []
        spread: list[Recipient] = []
        before = int(entry.notes.get(GONE_ON, 0))
        for alias, targets in self.targets.items():
            number = before + len(deposits)
            if has_looped := _has_been_at(entry.content, alias.path):
                deposits.append(_deposit(entry, number, (alias,), entry.content, "loop"))
            further: list[Path] = []
            for target in () if has_looped else targets:
                if (person := self.people[target]) not in taken:
                    taken.add(person)
                    further.append(target)
            is_one = len(targets) == 1
            if further:
                deposits += _onward(entry, alias, further, number, is_one=is_one)
            if not (has_looped or (is_one and further)):
                spread.append(alias)
            to = ", ".join(map(str, targets[:5])) + (", …" if len(targets) > 5 else "")
            reply = Reply(250, "2.1.5", f"goes on to {to}")
            results.append(Result(alias, Fate.DONE, reply, arrival=Arrival.PASSED_ON))
        outcomes = [RecipientOutcome(one.recipient, one.fate, one.said) for one in results]
        outcomes += [RecipientOutcome(one, Fate.LATER, entry.said.get(one.address, "")) for one in staying]
        notes = None
        if staying:
            notes = {**entry.notes, GONE_ON: str(before + len(deposits))}
            if ASKED in notes and not self.was_asked:
                notes[ASKED] = Submitted.name
        next_attempt = now if staying else None
        deposits += policy.expanded(entry, spread, now)
        return Settlement(tuple(results), tuple(outcomes), next_attempt, None, tuple(deposits), Answer.HOLD, notes)


async def expansion(entry: Entry, aliases: Aliases, rests: Callable[[Path], bool]) -> Expansion | None:
    """What becomes of an entry that was taken up; None where nobody in it is an alias, or it comes from one. `rests`
    tells whether mail for an address goes into a maildrop.
    """
    if ALIASED in entry.facts:
        return None
    found: dict[Recipient, Sequence[Path]] = {}
    for recipient in entry.envelope.recipients:
        if (targets := await aliases.targets(recipient.path)) is not None:
            found[recipient] = targets
    if not found:
        return None
    people: dict[Path, str] = {}
    paths = [one.path for one in entry.envelope.recipients if one not in found]
    for path in (*paths, *chain.from_iterable(found.values())):
        if path not in people:  # elsewhere two addresses are two people, whoever else they may be
            people[path] = await aliases.person(path) if rests(path) else path.address.lower()
    return Expansion(found, people, entry.notes.get(ASKED) == Expanded.name)


def looped(entry: Entry) -> list[Result]:
    """What an attempt of an entry comes to that has been at its alias before; nothing if it hasn't."""
    if entry.facts.get(ALIASED) != "loop":
        return []
    return [Result(one, Fate.FAILED, _LOOP, is_ours=True) for one in entry.envelope.recipients]


def _onward(entry: Entry, alias: Recipient, targets: Sequence[Path], count: int, *, is_one: bool) -> list[Deposit]:
    """The new entries of an alias."""
    parameters = _parameters(alias, is_one=is_one)
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
    return Deposit(
        entry.ticket,
        Envelope(envelope.sender, tuple(recipients), envelope.body, utf8, envelope.parameters),
        content,
        entry.received_at,
        authenticated=entry.authenticated,
        part=(entry.part + 1) * PARTS + _FIRST + number,
        facts={**facts_of(entry), ASKED: Submitted.name, ALIASED: how},
    )


def _parameters(alias: Recipient, *, is_one: bool) -> Mapping[str, str]:
    """What the sender wants to hear of is known of the targets too, by the address that he has written to. That of
    several each has it isn't his to know: he has heard that it went on (rfc3461#5.2.7).
    """
    if not alias.parameters:
        return alias.parameters
    parameters = dict(alias.parameters)
    if not is_one and wants(alias, Occasion.SUCCESS):
        others = [one for one in parameters["NOTIFY"].upper().split(",") if one != Occasion.SUCCESS.value]
        parameters["NOTIFY"] = ",".join(others) or "NEVER"
    if not alias.path.needs_smtputf8:
        parameters.setdefault("ORCPT", f"rfc822;{xtext.encode(alias.address)}")
    return parameters


def _has_been_at(content: Blob, address: Path) -> bool:
    wanted = address.address.lower().encode()
    return any(value.strip().lower() == wanted for value in read_section(content).raw_values("delivered-to"))
