"""Who may have mail, and whether it fits: what is said at RCPT, and what delivery does about a full mailbox.

At RCPT a recipient is looked up once, and a user with a quota is counted (store.quota). Mail that was accepted isn't
thrown away for a quota, nor sent back while there is hope: a message goes in as long as the mailbox was at most a tenth
over its quota before it. Beyond that it waits in the queue and is tried again, since its user may make room; whoever
has to hear of it does when its time is over, as for every other reason (rfc5321#6.1). So a mailbox exceeds its quota by
a tenth and the messages that arrive at once, also by mail that no RCPT announced: of lists, aliases, and collected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path as File

from gatepost.app.settings.root import Settings
from gatepost.hooks.questions import Question
from gatepost.model import Path, Recipient, Reply
from gatepost.store.addresses import Forward
from gatepost.store.quota import Limit, Quota, quota_in
from gatepost.store.registry import RegistryError
from gatepost.store.users import Accounts, User

log = logging.getLogger("gatepost.users")

NO_SUCH_USER = Reply(550, "5.1.1", "there is no such user here")
FULL = Reply(452, "4.2.2", "the mailbox is full, try again later")
REFUSED = Reply(552, "5.2.2", "the mailbox is full")
NEVER_FITS = Reply(552, "5.3.4", "this message is larger than all that the mailbox may hold")
NOT_NOW = Reply(451, "4.3.0", "who has a mailbox here can't be looked up now, try again later")
_GRACE = 10  # the part of a quota by which delivery may find it exceeded


class Quotas:
    """Users and what their mailboxes may hold. Who has no quota is never counted."""

    def __init__(self, settings: Settings, users: Accounts, where: Callable[[str], File] | None) -> None:
        """`where` gives a user's Maildir; None where mail doesn't come to rest in any."""
        self._users = users
        self._quota = None if where is None else Quota(where)
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """These settings are in effect from now on."""
        self._default = Limit(settings.users.quota or None)
        self._full = REFUSED if settings.users.over_quota == "refuse" else FULL

    def limit(self, user: User) -> Limit:
        """What a user's mailbox may hold: his own quota, else everybody's."""
        return _own(user) or self._default

    async def admission(self, question: Question) -> Reply | None:
        """Whether the recipient of a question exists and has room: None, or the refusal."""
        recipient: Recipient = question.facts["recipient"]
        try:
            found = self._users.lead(recipient.path)
            if found is None:
                return NO_SUCH_USER
            if isinstance(found, Forward):
                found = self._only(recipient.path)
        except RegistryError as error:
            return _not_now(error)
        return None if found is None else await self._refusal(found, question)

    async def room(self, question: Question) -> Reply | None:
        """The same where others know who exists: a refusal only of a user whose mailbox is full."""
        recipient: Recipient = question.facts["recipient"]
        try:
            found = self._users.lead(recipient.path)
        except RegistryError as error:
            return _not_now(error)
        return None if found is None or isinstance(found, Forward) else await self._refusal(found, question)

    async def takes(self, user: User) -> bool:
        """Whether delivery puts a message into a user's mailbox now."""
        limit = self.limit(user)
        if self._quota is None or limit == (None, None):
            return True
        graced = Limit(*(None if one is None else one + one // _GRACE for one in limit))
        return await self._quota.room(user.name, graced)

    async def close(self) -> None:
        """Wait for counts under way."""
        if self._quota is not None:
            await self._quota.close()

    def _only(self, address: Path) -> User | None:
        """The user whose mail alone an alias's is."""
        targets = self._users.addresses.targets(address) or ()
        return self._users.addresses.user(targets[0]) if len(targets) == 1 else None

    async def _refusal(self, user: User, question: Question) -> Reply | None:
        limit = self.limit(user)
        if self._quota is None or limit == (None, None):
            return None
        size = _size(question)
        if limit.octets is not None and size > limit.octets:
            return NEVER_FITS
        return None if await self._quota.room(user.name, limit, size) else self._full


def limit_of(user: User, settings: Settings) -> Limit:
    """What a user's mailbox may hold by these settings."""
    return _own(user) or Limit(settings.users.quota or None)


def _not_now(error: RegistryError) -> Reply:
    log.error("nobody can be told now who has a mailbox here: %s", error)
    return NOT_NOW


def _own(user: User) -> Limit | None:
    """A user's own quota, if there is one."""
    if user.quota is not None:
        return Limit(user.quota or None)
    return quota_in(user.extra) if user.extra else None


def _size(question: Question) -> int:
    """Octets that the client has announced; 1 where it hasn't: a mailbox that is just full has no room."""
    transaction = question.transaction
    said = "" if transaction is None else transaction.parameters.get("SIZE", "")
    return int(said) if said.isdecimal() else 1  # rfc1870#3: at most 20 digits
