"""Mail to a list's other addresses: who wants to join, to leave, to have help, or a person; what comes back.

Strategy: every wish that somebody else could have written in a member's name is asked back to the member's own address
first, and done when that mail is answered; the question counts against a bound for each address. Who is no person gets
no answer, and confirms nothing. What the owners get is the mail itself, with a mark by which it is known when it comes
round again (L2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from gatepost.content.headers import Section, read_section
from gatepost.content.received import count_received
from gatepost.content.values import unfold
from gatepost.content.view import View
from gatepost.lists import answering, bounces, mails, moderation
from gatepost.lists.addressing import Purpose, address_for, purpose_of
from gatepost.lists.commands import Command, Wish, last_day, read_command
from gatepost.lists.context import Context
from gatepost.lists.handled import Handled
from gatepost.lists.posting import MAX_HOPS, TOO_MANY_HOPS
from gatepost.model import AddHeader, Envelope, Path, Recipient
from gatepost.store import Deposit, Entry
from gatepost.store.lists import MailingList, Member, Taken, UnknownList
from gatepost.store.users import folded

CONFIRM_S = 3 * 86_400.0
"""Seconds that a question is open."""
APPROVE_S = 14 * 86_400.0
"""Seconds that the owners have to let somebody in."""

_DONE = Handled()
_APPROVE = "approve"
_TOKEN = 16  # characters


async def take(
    context: Context, mailing_list: MailingList, purpose: Purpose, extension: str, entry: Entry, recipient: Recipient
) -> Handled:
    """What a mail to one of a list's addresses comes to, all but POST; `extension` is what stands behind the "+".

    Raises ListError where the lists' database can't answer: it is to be handled again later.
    """
    match purpose:
        case Purpose.BOUNCES | Purpose.PROBE:
            return await bounces.take(context, mailing_list, purpose, extension, entry)
        case Purpose.APPROVE | Purpose.REFUSE:
            return await moderation.decide(context, mailing_list, purpose, extension, entry)
        case Purpose.OWNER:
            return _to_owners(context, mailing_list, entry)
        case Purpose.POST:
            raise ValueError("a post is no request")
        case Purpose.REQUEST | Purpose.SUBSCRIBE | Purpose.UNSUBSCRIBE | Purpose.CONFIRM:
            section = read_section(entry.content)
            if answering.is_automatic(section, entry.envelope.sender):
                return _DONE
            command = _command(mailing_list, purpose, extension, section, entry)
            return Handled(tuple(await _Desk.of(context, mailing_list, section, entry).serve(command)))
        case _:
            assert_never(purpose)


def _command(
    mailing_list: MailingList, purpose: Purpose, extension: str, section: Section, entry: Entry
) -> Command | None:
    match purpose:
        case Purpose.SUBSCRIBE:
            return Command(Wish.SUBSCRIBE)
        case Purpose.UNSUBSCRIBE:
            return Command(Wish.UNSUBSCRIBE)
        case Purpose.CONFIRM:
            return Command(Wish.CONFIRM, extension.lower())
        case _:
            return read_command(section, entry.content, mailing_list.name, mailing_list.address.lower())


def _to_owners(context: Context, mailing_list: MailingList, entry: Entry) -> Handled:
    """The mail as it is, to the owners. Bounces of it end at the list; what has been here before goes nowhere."""
    us = address_for(mailing_list.address, Purpose.OWNER).address
    section = read_section(entry.content)
    marks = {unfold(value).strip().lower() for value in section.raw_values("x-loop")}
    if us.lower() in marks:
        return _DONE  # the owners have had it
    if count_received(section) > MAX_HOPS:
        return Handled(refusal=TOO_MANY_HOPS)
    old = entry.envelope
    to = tuple(map(Recipient, moderation.owners(mailing_list)))
    utf8 = old.smtputf8 or any(one.path.needs_smtputf8 for one in to)
    back = address_for(mailing_list.address, Purpose.BOUNCES)
    content = View(entry.content, [AddHeader("X-Loop", us, at=0)], utf8=utf8).blob
    envelope = Envelope(back, to, old.body, utf8, old.parameters)
    return Handled((Deposit(context.new_ticket(), envelope, content, entry.received_at),))


@dataclass(frozen=True, slots=True)
class _Desk:
    """One request. `author` is whom it is about and who is answered; `is_proven` says that he has authenticated."""

    context: Context
    mailing_list: MailingList
    author: Path
    display: str
    answers: str
    is_proven: bool

    @classmethod
    def of(cls, context: Context, mailing_list: MailingList, section: Section, entry: Entry) -> _Desk:
        author, display = answering.author_of(section, entry.envelope.sender)
        is_proven = entry.authenticated is not None and folded(entry.authenticated) == folded(author.address)
        return cls(context, mailing_list, author, display, mails.message_id_of(section), is_proven)

    async def serve(self, command: Command | None) -> list[Deposit]:
        """Do what is asked for, or ask back; the letters that tell of it."""
        if answering.is_program(self.author) or purpose_of(self.mailing_list.address, self.author) is not None:
            return []
        if await self.context.store.at(self.author.address) is not None:
            return []  # a list of ours writes to nobody: it is put on another one by an operator only
        if command is None:
            return await self._tell(
                mails.help_text(self.mailing_list, self.author, opening="Nothing in your mail was understood.")
            )
        match command.wish:
            case Wish.HELP:
                return await self._tell(mails.help_text(self.mailing_list, self.author))
            case Wish.WHO:
                return await self._who()
            case Wish.CONFIRM:
                return await self._confirm(command.argument)
            case Wish.SUBSCRIBE:
                return await self._subscribe()
            case Wish.UNSUBSCRIBE | Wish.MAIL | Wish.NOMAIL | Wish.VACATION:
                return await self._as_member(command)
            case _:
                assert_never(command.wish)

    async def _subscribe(self) -> list[Deposit]:
        if self.mailing_list.options.subscribe == "closed":
            return await self._tell(_closed(self.mailing_list, self.author))
        member = await self._member(self.author)
        if member is not None and member.stopped_at is None:
            return await self._tell(
                mails.told(
                    self.mailing_list,
                    self.author,
                    "you are subscribed",
                    f"{self.author.address} is subscribed already.",
                )
            )
        if self.mailing_list.options.subscribe == "open" or self.is_proven:
            return await self._joined(self.author, self.display)
        wish = f"{self.author.address} be subscribed to the list {self.mailing_list.address}"
        return await self._ask(f"{Wish.SUBSCRIBE.value} {self.display}".strip(), wish)

    async def _as_member(self, command: Command) -> list[Deposit]:
        if await self._member(self.author) is None:
            return await self._tell(_no_member(self.mailing_list, self.author))
        if self.is_proven:
            return await self._done(command, self.author)
        return await self._ask(f"{command.wish.value} {command.argument}".strip(), self._wish(command))

    async def _confirm(self, token: str) -> list[Deposit]:
        """The answer to a question. Who answers may write from another address: he has the token. That is used up last:
        where the database fails on the way, all of it is done once more.
        """
        store, now = self.context.store, self.context.now()
        asked = await store.asked(token, now) if len(token) == _TOKEN and token.isalnum() else None
        action, _, argument = ("", "", "") if asked is None else asked.action.partition(" ")
        if asked is None or asked.list != self.mailing_list.name or action not in _CONFIRMED:
            return await self._stale()
        letters = await self._confirmed(action, argument, Path.parse(asked.address))
        await store.answer(token, now)
        return letters

    async def _confirmed(self, action: str, argument: str, address: Path) -> list[Deposit]:
        if action == _APPROVE:
            return await self._join(address, argument)
        if action == Wish.SUBSCRIBE.value:
            return await self._joined(address, argument)
        return await self._done(Command(Wish(action), argument), address)

    async def _joined(self, address: Path, display: str) -> list[Deposit]:
        """Somebody who owns the address wants to be on the list: he is, if nobody else has to agree."""
        policy = self.mailing_list.options.subscribe
        if policy == "closed":
            return await self._tell(_closed(self.mailing_list, address), address)
        if policy != "moderated" or await self._member(address) is not None:
            return await self._join(address, display)
        store, now = self.context.store, self.context.now()
        waits = mails.told(
            self.mailing_list,
            address,
            "your request waits",
            f"The people who look after {self.mailing_list.address} are asked.",
        )
        letters = await self._tell(waits, address)
        if await answering.may_tell(self.context, self.mailing_list):
            token = await store.ask(
                self.mailing_list.name, address.address, f"{_APPROVE} {display}".strip(), now, APPROVE_S
            )
            owners = moderation.owners(self.mailing_list)
            question = mails.for_approval(self.mailing_list, owners, address.address, token, now + APPROVE_S)
            letters.append(mails.deposit(self.context, self.mailing_list, question))
        return letters

    async def _join(self, address: Path, display: str) -> list[Deposit]:
        store, now = self.context.store, self.context.now()
        try:
            member = await store.subscribe(self.mailing_list.name, address.address, display=display, now=now)
        except UnknownList:
            return []
        except Taken:
            known = await self._member(address)
            if known is None:
                return []
            if known.stopped_at is not None:
                await store.change_member(bounces.working(known))
            member = known
        return await self._tell(mails.welcome(self.mailing_list, member), address)

    async def _done(self, command: Command, address: Path) -> list[Deposit]:
        """Leaving, or an option of a member."""
        store = self.context.store
        if command.wish is Wish.UNSUBSCRIBE:
            was = await store.unsubscribe(self.mailing_list.name, address.address)
            return await self._tell((mails.goodbye if was else _no_member)(self.mailing_list, address), address)
        member = await self._member(address)
        if member is None:
            return await self._tell(_no_member(self.mailing_list, address), address)
        match command.wish:
            case Wish.NOMAIL:
                member, now_so = replace(member, mode="nomail"), "gets no posts until it asks for them"
            case Wish.VACATION:
                member = replace(member, vacation_until=last_day(command.argument))
                now_so = f"gets no posts until {command.argument} is over"
            case _:
                member = replace(bounces.working(member), mode="mail", vacation_until=None)
                now_so = "gets the posts"
        await store.change_member(member)
        text = f"{address.address} {now_so} of {self.mailing_list.address}."
        return await self._tell(mails.told(self.mailing_list, address, "your wish is noted", text), address)

    async def _who(self) -> list[Deposit]:
        """The members, to an owner's own address: who only writes in his name gets nothing."""
        owner = next(
            (one for one in self.mailing_list.options.owners if folded(one) == folded(self.author.address)), None
        )
        if owner is None:
            return await self._tell(
                mails.told(
                    self.mailing_list, self.author, "members", "Only the owners of the list are told who is on it."
                )
            )
        store = self.context.store
        members = await store.members(self.mailing_list.name, limit=mails.MOST_NAMED)
        return await self._tell(
            mails.who(self.mailing_list, Path.parse(owner), members, await store.count(self.mailing_list.name))
        )

    async def _stale(self) -> list[Deposit]:
        """A token that is over, used, or was never one: told without a hint which."""
        member = await self._member(self.author)
        text = f"{self.author.address} is {'' if member else 'not '}subscribed to {self.mailing_list.address}."
        letter = mails.told(
            self.mailing_list,
            self.author,
            "this confirmation doesn't count any more",
            "What you have answered is over, or was answered before; nothing has changed now.",
            text,
            f"To ask again, write to {address_for(self.mailing_list.address, Purpose.REQUEST).address}.",
        )
        return await self._tell(letter)

    async def _member(self, address: Path) -> Member | None:
        return await self.context.store.member(self.mailing_list.name, address.address)

    async def _ask(self, action: str, wish: str) -> list[Deposit]:
        """A question to the author's address, if he hasn't had too many."""
        if not (left := await answering.may_write(self.context, self.mailing_list, self.author)):
            return []
        now = self.context.now()
        token = await self.context.store.ask(self.mailing_list.name, self.author.address, action, now, CONFIRM_S)
        await answering.count(self.context, self.mailing_list, self.author, is_asked=True)
        question = mails.confirmation(self.mailing_list, self.author, wish, token, now + CONFIRM_S)
        return [self._deposit(mails.last_of_an_hour(question) if left == 1 else question)]

    async def _tell(self, letter: mails.Letter, to: Path | None = None) -> list[Deposit]:
        """An answer to the author, or to an address that was proven to be its owner's, within bounds."""
        if not (left := await answering.may_write(self.context, self.mailing_list, to or self.author)):
            return []
        await answering.count(self.context, self.mailing_list, to or self.author)
        return [self._deposit(mails.last_of_an_hour(letter) if left == 1 else letter)]

    def _deposit(self, letter: mails.Letter) -> Deposit:
        is_answer = letter.to == (self.author,)
        return mails.deposit(
            self.context, self.mailing_list, replace(letter, answers=self.answers) if is_answer else letter
        )

    def _wish(self, command: Command) -> str:
        address, to = self.author.address, f"the list {self.mailing_list.address}"
        match command.wish:
            case Wish.UNSUBSCRIBE:
                return f"{address} be taken off {to}"
            case Wish.NOMAIL:
                return f"{address} get no posts of {to}, and stay a member"
            case Wish.VACATION:
                return f"{address} get no posts of {to} until {command.argument} is over"
            case _:
                return f"{address} get the posts of {to} again"


def _closed(mailing_list: MailingList, to: Path) -> mails.Letter:
    owner = address_for(mailing_list.address, Purpose.OWNER).address
    text = f"Nobody can subscribe to {mailing_list.address} by mail. The people who look after it read {owner}."
    return mails.told(mailing_list, to, "closed", text)


def _no_member(mailing_list: MailingList, to: Path) -> mails.Letter:
    text = f"{to.address} isn't subscribed to {mailing_list.address}. If another address of yours is, write from that."
    return mails.told(mailing_list, to, "you aren't subscribed", text)


_CONFIRMED = frozenset({_APPROVE, *(one.value for one in Wish if one not in (Wish.HELP, Wish.CONFIRM, Wish.WHO))})
