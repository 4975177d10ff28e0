"""One transaction as the chain sees it: envelope, edits that counted, and what sticks.

Edits reach it only through `apply`, after the answer they came with was found good: so a failing plugin leaves no trace
in the envelope or the content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gatepost.hooks.ports import Content
from gatepost.hooks.session import Holder, Standing
from gatepost.model import (
    AddRecipient,
    ChangeSender,
    ContentEdit,
    Edit,
    Keep,
    Path,
    Recipient,
    RemoveRecipient,
    ReplaceMessage,
    Split,
    Ticket,
)
from gatepost.model import kept as keeping

Snapshot = tuple[list[Recipient], Path, list[ContentEdit], list[tuple[Split, int]], list[Recipient], dict[str, str]]


class EditError(ValueError):
    """An edit that can't be applied; its plugin's whole answer has failed."""


@dataclass(slots=True, eq=False)
class Transaction:
    """MAIL to end-of-data. Invariant: `recipients` has no address twice; `edits` are in the order they were made."""

    ticket: Ticket
    sender: Path
    parameters: Mapping[str, str]
    """The MAIL command's."""
    recipients: list[Recipient] = field(default_factory=list)
    standing: Standing = field(default_factory=Standing)
    standings: dict[Recipient, Standing] = field(default_factory=dict)
    """What sticks to single recipients."""
    removed: list[Recipient] = field(default_factory=list)
    """Whom plugins took out; the recipient being asked about may be among them before it is in."""
    edits: list[ContentEdit] = field(default_factory=list)
    """To the content that all recipients share."""
    splits: list[tuple[Split, int]] = field(default_factory=list)
    """Groups with content of their own, and how many shared edits had been made before each."""
    content: Content | None = None
    """None until the header section is there."""
    kept: dict[str, str] = field(default_factory=dict)
    """Texts that stay with the message, durable with it."""
    holder: Holder = field(default_factory=Holder, repr=False)

    def standing_of(self, recipient: Recipient) -> Standing:
        """What sticks to this recipient; made on first use."""
        return self.standings.setdefault(recipient, Standing())

    def is_silenced(self, recipient: Recipient | None = None) -> bool:
        """Whether an Accept speaks for the whole transaction or for this recipient."""
        if self.standing.silenced:
            return True
        if recipient is None:
            return False
        standing = self.standings.get(recipient)
        return standing is not None and standing.silenced

    def apply(self, edits: Iterable[Edit]) -> None:
        """Make edits count, all or none; EditError if one can't."""
        sender, shared, splits = self.sender, list(self.edits), list(self.splits)
        there = dict.fromkeys(self.recipients)  # in their order; a list may have thousands
        removed, kept = list(self.removed), self.kept
        for edit in edits:
            match edit:
                case AddRecipient(recipient):
                    there.setdefault(recipient)
                case RemoveRecipient(recipient):
                    removed.append(recipient)
                    there.pop(recipient, None)
                case ChangeSender(path):
                    sender = path
                case Split(group, _):
                    if taken := [r for r in group if any(r in split.recipients for split, _ in splits)]:
                        raise EditError(f"{taken[0]} already is in a group with content of its own")
                    splits.append((edit, len(shared)))
                case ReplaceMessage():  # who has content of his own keeps what makes it so
                    shared.append(edit)
                    splits = [(split, len(shared)) for split, _ in splits]
                case Keep(name, text):
                    kept = {**kept, name: text}
                    if keeping.size_of(kept) > keeping.MOST:
                        raise EditError(f'"{name}" is too much to be kept: {keeping.MOST} characters a message')
                case _:
                    shared.append(edit)
        self.recipients, self.sender, self.edits, self.splits = list(there), sender, shared, splits
        self.removed, self.kept = removed, kept

    def snapshot(self) -> Snapshot:
        """What edits can change, as it is now."""
        return (self.recipients, self.sender, self.edits, self.splits, self.removed, self.kept)

    def restore(self, snapshot: Snapshot) -> None:
        """As it was: for a recipient that is refused in the end, nothing that was edited on the way counts."""
        self.recipients, self.sender, self.edits, self.splits, self.removed, self.kept = snapshot

    def frozen(self) -> Transaction:
        """As it is now, for whoever looks at it later."""
        return replace(
            self,
            recipients=list(self.recipients),
            removed=list(self.removed),
            edits=list(self.edits),
            splits=list(self.splits),
        )

    def groups(self) -> list[tuple[Sequence[Recipient], Sequence[ContentEdit]]]:
        """The recipients grouped by the content they get, the shared content first; no group is empty."""
        if not self.splits:
            return [(self.recipients, self.edits)] if self.recipients else []
        there = set(self.recipients)
        split_off = {recipient for split, _ in self.splits for recipient in split.recipients}
        rest = [recipient for recipient in self.recipients if recipient not in split_off]
        found: list[tuple[Sequence[Recipient], Sequence[ContentEdit]]] = [(rest, self.edits)]
        for split, at in self.splits:
            members = [recipient for recipient in split.recipients if recipient in there]
            found.append((members, [*self.edits[:at], *split.edits, *self.edits[at:]]))
        return [group for group in found if group[0]]
