"""How the copies of a post look in one attempt: the list's header section over the stored body, and a return path.

The section is rendered once an attempt, with the list as it is now; a copy costs its own few octets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gatepost.content.headers import Section, read_section
from gatepost.content.pieces import Rendered, Span
from gatepost.lists.addressing import Purpose, address_for, bounces_address, unsubscribe_token
from gatepost.lists.context import Context
from gatepost.lists.dmarc import is_strict
from gatepost.lists.expansion import LIST, member_in, via_in
from gatepost.lists.rendering import Block, author_domain, render
from gatepost.model import Blob, Bytes, Path, Recipient
from gatepost.net.answers import Resolving
from gatepost.store import Entry
from gatepost.store.lists import ListOptions, MailingList


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of one entry. `members` are the members' ids by recipient address, as far as they are known."""

    each: bool
    """Whether every recipient has a return path or header section of its own."""
    mailing_list: MailingList
    block: Block
    body: Rendered
    members: dict[str, int]
    secret: bytes

    def of(self, recipients: Sequence[Recipient]) -> tuple[Path, Blob]:
        """The return path and the content for some of the recipients; one where there is a copy for each."""
        member = self.members.get(recipients[0].address) if self.each and len(recipients) == 1 else None
        token = None if member is None else unsubscribe_token(member, self.secret)
        head = Bytes(self.block.of(token))
        content = Rendered([Span(head, 0, head.size), *self.body.spans])
        if member is None or not self.mailing_list.options.verp:
            return address_for(self.mailing_list.address, Purpose.BOUNCES), content
        return bounces_address(self.mailing_list, member, self.secret), content


async def copies(context: Context, entry: Entry, resolver: Resolving) -> Copies | None:
    """The copies of an entry that is some; None for any other. Raises ListError and OSError."""
    name = entry.facts.get(LIST)
    if name is None:
        return None
    mailing_list = await context.store.find(name) or _gone(name, entry.envelope.sender)
    section = read_section(entry.content)
    options = mailing_list.options
    block = render(
        section,
        mailing_list,
        is_rewritten=await _is_rewritten(options, section, resolver),
        via=via_in(entry),
        utf8=entry.envelope.smtputf8,
    )
    start = len(section.raw)
    body = Rendered([Span(entry.content, start, entry.content.size - start)])
    members = {address: id for address, route in entry.routes.items() if (id := member_in(route)) is not None}
    each = options.verp or bool(options.unsubscribe_url)
    return Copies(each, mailing_list, block, body, members, context.store.secret)


async def _is_rewritten(options: ListOptions, section: Section, resolver: Resolving) -> bool:
    if options.from_ != "rewrite-if-dmarc":
        return options.from_ == "rewrite"
    domain = author_domain(section)
    return bool(domain) and await is_strict(domain, resolver)


def _gone(name: str, sender: Path) -> MailingList:
    """A list that was removed after the post was taken: what is promised goes out, and says only whose it was."""
    local = sender.local.removesuffix(Purpose.BOUNCES.value)
    return MailingList(name, replace(sender, local=local).address, ListOptions(subscribe="closed", verp=False))
