"""IMailMsgRecipients and IMailMsgRecipientsAdd for a sink in Python. Contract: Interfaces.

A recipient is a property bag. The message's own list is changed by properties put on its recipients, or as a whole: a
new list from `alloc_new_list`, filled, and given to `write_list`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from gatepost.plugins.sink.constants import IMMPID_RP, RECIPIENT_FLAGS
from gatepost.plugins.sink.mailmsg_bag import BadArgument, MailMsgPropertyBag, Seal, TooMuch, Unknown
from gatepost.plugins.sink.properties import dword_in, string_in
from gatepost.plugins.sink.states import Bag, Message

MOST_RECIPIENTS = 10_000
"""Recipients of one list."""


class NoRecipient(IndexError):
    """There is no recipient of this index."""

    hresult: Final = 0x80030012  # STG_E_NOMOREFILES, as there


class MailMsgRecipient(MailMsgPropertyBag):
    """One recipient's properties."""

    def __init__(self, bag: Bag, seal: Seal, note: Callable[[int], None] | None = None) -> None:
        """`note` hears which properties are put."""
        super().__init__(bag, seal)
        self._note = note

    @property
    def address(self) -> str:
        """Its SMTP address; "" where it has none."""
        self._seal.check()
        return string_in(self._bag, IMMPID_RP.ADDRESS_SMTP)

    @address.setter
    def address(self, address: str) -> None:
        self.put_string(IMMPID_RP.ADDRESS_SMTP, address)

    @property
    def flags(self) -> RECIPIENT_FLAGS:
        """Its RECIPIENT_FLAGS."""
        self._seal.check()
        return RECIPIENT_FLAGS(dword_in(self._bag, IMMPID_RP.RECIPIENT_FLAGS))

    @flags.setter
    def flags(self, flags: int) -> None:
        self.put_dword(IMMPID_RP.RECIPIENT_FLAGS, int(flags))

    def _was_put(self, id: int) -> None:
        if self._note is not None:
            self._note(id)

    def __str__(self) -> str:
        return self.address


class MailMsgRecipientsBase(Unknown, ABC):
    """A list of recipients, by index from 0; in Python a sequence of MailMsgRecipient too."""

    interfaces: tuple[str, ...] = ("IMailMsgRecipientsBase",)

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def count(self) -> int:
        """How many there are."""
        return len(self._bags)

    def item(self, index: int, which: int = IMMPID_RP.ADDRESS_SMTP) -> str:
        """A recipient's name of one kind. NoRecipient, PropertyNotFound."""
        return self[index].get_string(which)

    def put_property(self, index: int, id: int, value: bytes) -> None:
        """Set a recipient's property to these octets. NoRecipient; TooMuch."""
        self[index].put_property(id, value)

    def get_property(self, index: int, id: int) -> bytes:
        """The octets of a recipient's property. NoRecipient, PropertyNotFound."""
        return self[index].get_property(id)

    def put_string(self, index: int, id: int, text: str) -> None:
        """Set a recipient's property to a text, in UTF-8. NoRecipient."""
        self[index].put_string(id, text)

    def get_string(self, index: int, id: int) -> str:
        """The text of a recipient's property. NoRecipient, PropertyNotFound."""
        return self[index].get_string(id)

    def put_wide_string(self, index: int, id: int, text: str) -> None:
        """Set a recipient's property to a text, in UTF-16. NoRecipient."""
        self[index].put_wide_string(id, text)

    def get_wide_string(self, index: int, id: int) -> str:
        """The text of a recipient's property that is in UTF-16. NoRecipient, PropertyNotFound."""
        return self[index].get_wide_string(id)

    def put_dword(self, index: int, id: int, value: int) -> None:
        """Set a recipient's property to a number. NoRecipient."""
        self[index].put_dword(id, value)

    def get_dword(self, index: int, id: int) -> int:
        """The number in a recipient's property. NoRecipient, PropertyNotFound."""
        return self[index].get_dword(id)

    def put_bool(self, index: int, id: int, value: object) -> None:
        """Set a recipient's property to true or false. NoRecipient."""
        self[index].put_bool(id, value)

    def get_bool(self, index: int, id: int) -> bool:
        """Whether a recipient's property is true. NoRecipient, PropertyNotFound."""
        return self[index].get_bool(id)

    def __len__(self) -> int:
        return self.count()

    def __getitem__(self, index: int) -> MailMsgRecipient:
        bags = self._bags
        if not 0 <= index < len(bags):
            raise NoRecipient(f"there is no recipient {index}: there are {len(bags)}, from 0")
        return self._recipient(index, bags[index])

    def __iter__(self) -> Iterator[MailMsgRecipient]:
        return (self[index] for index in range(self.count()))

    Count, Item = count, item
    PutProperty, GetProperty = put_property, get_property
    PutStringA, GetStringA = put_string, get_string
    PutStringW, GetStringW = put_wide_string, get_wide_string
    PutDWORD, GetDWORD = put_dword, get_dword
    PutBool, GetBool = put_bool, get_bool

    @property
    @abstractmethod
    def _bags(self) -> list[Bag]:
        """The recipients' own, in order."""

    def _recipient(self, index: int, bag: Bag) -> MailMsgRecipient:
        return MailMsgRecipient(bag, self._seal)


class MailMsgRecipientsAdd(MailMsgRecipientsBase):
    """IMailMsgRecipientsAdd: a new list. It becomes the message's by `write_list`."""

    interfaces = ("IMailMsgRecipientsAdd", "IMailMsgRecipientsBase")

    def __init__(self, seal: Seal) -> None:
        super().__init__(seal)
        self._list: list[Bag] = []
        self._places: dict[tuple[int, str], int] = {}
        """Where each name was added."""

    def add_primary(
        self,
        names: str | Sequence[str] | Mapping[int, str],
        ids: Sequence[int] | None = None,
        source: MailMsgRecipientsBase | None = None,
        index: int = 0,
    ) -> int:
        """One recipient more; its index. `names`: the SMTP address, names by their ids, or names and `ids` beside. One
        that was added under the same names already is replaced.

        The properties of `source`'s recipient `index` are its own too, where one is given. TooMuch, BadArgument.
        """
        self._seal.check()
        named = _named(names, ids)
        at = self._place_of(named)
        if at is None and len(self._list) >= MOST_RECIPIENTS:
            raise TooMuch(f"a list has at most {MOST_RECIPIENTS} recipients")
        bag = {} if source is None else dict(source[index]._bag)
        recipient = MailMsgRecipient(bag, self._seal)
        for id, name in named.items():
            recipient.put_string(id, name)
        if IMMPID_RP.ADDRESS_SMTP in named:
            recipient.put_string(IMMPID_RP.DOMAIN, recipient.address.rpartition("@")[2])
        if at is None:
            at = len(self._list)
            self._list.append(bag)
        else:
            self._list[at] = bag
        self._places.update({(id, name.lower()): at for id, name in named.items()})
        return at

    def add_secondary(
        self,
        names: str | Sequence[str] | Mapping[int, str],
        ids: Sequence[int] | None = None,
        source: MailMsgRecipientsBase | None = None,
        index: int = 0,
    ) -> int | None:
        """As `add_primary`, unless there is a recipient with one of these names already: None then."""
        self._seal.check()
        named = _named(names, ids)
        return None if self._place_of(named) is not None else self.add_primary(named, None, source, index)

    AddPrimary, AddSecondary = add_primary, add_secondary

    def _place_of(self, named: Mapping[int, str]) -> int | None:
        """Who was added under one of these names, and still has it."""
        for id, name in named.items():
            at = self._places.get((id, name.lower()))
            if at is not None and string_in(self._list[at], id).lower() == name.lower():
                return at
        return None

    @property
    def _bags(self) -> list[Bag]:
        self._seal.check()
        return self._list


class RecipientFilter:
    """A walk over the recipients whose flags, as far as `mask` has them, are `flags`."""

    def __init__(self, found: Iterator[int]) -> None:
        self._found = found


class MailMsgRecipients(MailMsgRecipientsBase):
    """IMailMsgRecipients: those of a message."""

    interfaces = ("IMailMsgRecipients", "IMailMsgRecipientsBase")

    def __init__(self, state: Message, seal: Seal) -> None:
        super().__init__(seal)
        self._state = state

    def commit(self, index: int = 0, notify: object = None) -> None:
        """What was put counts when the sink has answered; there is nothing to wait for. NoRecipient."""
        if self._bags:
            self[index]

    def domain_count(self) -> int:
        """How many different domains they have."""
        return len(self._domains())

    def domain_item(self, index: int) -> tuple[str, list[int]]:
        """A domain, from 0 in the order of the list, and the indices of its recipients. NoRecipient."""
        domains = self._domains()
        if not 0 <= index < len(domains):
            raise NoRecipient(f"there is no domain {index}: there are {len(domains)}, from 0")
        return list(domains.items())[index]

    def set_next_domain(self, index: int, next_index: int, flags: int = 0) -> None:
        """Which domains go out in one connection is delivery's business here: nothing happens. NoRecipient."""
        self.domain_item(index)
        self.domain_item(next_index)

    def alloc_new_list(self) -> MailMsgRecipientsAdd:
        """A new list, empty."""
        self._seal.check()
        return MailMsgRecipientsAdd(self._seal)

    def write_list(self, recipients: MailMsgRecipientsAdd) -> None:
        """These are the message's recipients from now on, instead of all it had. BadArgument."""
        self._seal.check()
        if not isinstance(recipients, MailMsgRecipientsAdd):
            raise BadArgument("write_list takes a list that alloc_new_list has made")
        self._state.written_list = list(recipients._bags)

    def initialize_recipient_filter_context(
        self, start_domain: int = 0, flags: int = 0, mask: int = 0
    ) -> RecipientFilter:
        """A walk over those whose RECIPIENT_FLAGS, as far as `mask` has them, are `flags`; from this domain on."""
        domains = list(self._domains().values())[start_domain:]
        bags = self._bags
        chosen = [
            index
            for indices in domains
            for index in indices
            if dword_in(bags[index], IMMPID_RP.RECIPIENT_FLAGS) & mask == flags
        ]
        return RecipientFilter(iter(chosen))

    def get_next_recipient(self, context: RecipientFilter) -> int | None:
        """The next recipient's index; None at the end."""
        self._seal.check()
        return next(context._found, None)

    def terminate_recipient_filter_context(self, context: RecipientFilter) -> None:
        """The walk is over."""
        context._found = iter(())

    Commit, DomainCount, DomainItem, SetNextDomain = commit, domain_count, domain_item, set_next_domain
    AllocNewList, WriteList = alloc_new_list, write_list
    InitializeRecipientFilterContext = initialize_recipient_filter_context
    TerminateRecipientFilterContext = terminate_recipient_filter_context
    GetNextRecipient = get_next_recipient

    @property
    def _bags(self) -> list[Bag]:
        self._seal.check()
        written = self._state.written_list
        return self._state.recipients if written is None else written

    def _recipient(self, index: int, bag: Bag) -> MailMsgRecipient:
        if self._state.written_list is not None:
            return MailMsgRecipient(bag, self._seal)
        put_for = self._state.put_for
        return MailMsgRecipient(bag, self._seal, lambda id: put_for.setdefault(index, set()).add(id))

    def _domains(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index, bag in enumerate(self._bags):
            found.setdefault(string_in(bag, IMMPID_RP.DOMAIN).lower(), []).append(index)
        return found


def _named(names: str | Sequence[str] | Mapping[int, str], ids: Sequence[int] | None) -> dict[int, str]:
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Mapping):
        ids = [IMMPID_RP.ADDRESS_SMTP] * len(names) if ids is None else ids
        if len(ids) != len(names):
            raise BadArgument(f"{len(names)} names and {len(ids)} ids")
        names = dict(zip(ids, names, strict=True))
    if not names:
        raise BadArgument("a recipient needs a name")
    return {int(id): name for id, name in names.items()}


__all__ = [
    "MailMsgRecipient",
    "MailMsgRecipients",
    "MailMsgRecipientsAdd",
    "MailMsgRecipientsBase",
    "NoRecipient",
    "RecipientFilter",
]
