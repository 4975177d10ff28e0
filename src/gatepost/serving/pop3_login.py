"""POP3 logins: USER and PASS, APOP, AUTH, by SMTP's users and in the same time; then the maildrop is opened.

A login that is refused for another reason than its proof says so by a response code (RFC 2449 §8, RFC 3206), so that a
client doesn't ask its user for another password.
"""

from __future__ import annotations

import logging

from gatepost.hooks import stages
from gatepost.hooks.session import Session
from gatepost.model import Reply
from gatepost.model.written import printable
from gatepost.serving.authentication import Proving
from gatepost.serving.pop3_place import PopPlace
from gatepost.store.mailboxes import MailboxError, MailboxInUse, MailboxSession
from gatepost.wire.pop3.apop import Apop
from gatepost.wire.pop3.server import ServerSession

_SPACE = "pop3-login"  # of the ledger
_NO_PROOF = 535

log = logging.getLogger("gatepost.serving")


class PopLogin(Proving):
    """Invariant: a maildrop is open exactly after a login that has succeeded; whoever made this closes it."""

    __slots__ = ("_machine", "_pop_place", "failures", "mailbox")

    stage = stages.PopLogin

    def __init__(self, place: PopPlace, machine: ServerSession, session: Session) -> None:
        super().__init__(place, session)
        self._pop_place = place
        self._machine = machine
        self.failures = 0
        """Logins that have failed in this session."""
        self.mailbox: MailboxSession | None = None

    async def password(self, user: str, password: str) -> None:
        """USER and PASS."""
        self._mechanism = "USER"
        await self._verify(user, password)

    async def digest(self, user: str, digest: str) -> None:
        """APOP."""
        self._mechanism = "APOP"
        await self._prove(user, Apop(self._machine.timestamp, digest).fits)

    @property
    def _verbatim(self) -> bool:
        return self._pop_place.verbatim

    def _challenge(self, data: bytes) -> None:
        self._machine.challenge(data)

    def _say_no(self, reply: Reply) -> None:
        self.failures += 1
        if reply.code < 500:
            code = "SYS/TEMP"
        else:
            code = "AUTH" if reply.code == _NO_PROOF else "SYS/PERM"  # rfc3206#4
        self._machine.err(reply.text, code, closes=reply.code == 421)

    async def _welcome(self, user: str, by: str, maildrop: str | None = None) -> None:
        place, session = self._pop_place, self._session
        if not self._is_shown(user, by):
            return
        if await self._is_too_soon(user):
            self._not_now("LOGIN-DELAY", "you have just been here, come again later", user)
            return
        try:
            self.mailbox = await place.mailboxes.open(maildrop or user)
        except MailboxInUse:
            self._not_now("IN-USE", "the maildrop is open in another session", user)  # rfc2449#8.1.2
            return
        except MailboxError as error:
            log.error("a maildrop couldn't be opened; token %s", session.id, exc_info=error)
            self._not_now("SYS/TEMP", "the maildrop can't be opened now", user)
            return
        await self._remember(user)
        session.user = user
        self._exchange = None
        messages, octets = len(self.mailbox.messages), self.mailbox.octets
        facts: dict[str, object] = {"user": user, "mechanism": self._mechanism, "messages": messages, "octets": octets}
        facts |= self._waited()
        if maildrop is not None:
            facts["maildrop"] = printable(maildrop)
        place.recorder.record(session.id, "login", facts)
        self._machine.logged_in(f"{messages} messages, {octets} octets")

    async def _is_too_soon(self, user: str) -> bool:
        """Whether the user's latest login is younger than what LOGIN-DELAY tells."""  # rfc2449#6.5
        place = self._pop_place
        if not place.profile.login_delay or place.facts is None:
            return False
        try:
            return await place.facts.get(_SPACE, user.lower()) is not None
        except Exception as error:  # what can't be remembered keeps nobody out
            log.error("the latest logins can't be looked up", exc_info=error)
            return False

    async def _remember(self, user: str) -> None:
        place = self._pop_place
        if not place.profile.login_delay or place.facts is None:
            return
        try:
            await place.facts.put(_SPACE, user.lower(), 1, place.profile.login_delay)
        except Exception as error:  # as above
            log.error("a login can't be remembered", exc_info=error)

    def _not_now(self, code: str, text: str, user: str) -> None:
        self._exchange = None
        facts = {"user": printable(user[:100]), "mechanism": self._mechanism, "failed": text, "reply": f"-ERR [{code}]"}
        facts |= self._waited()
        self._place.recorder.record(self._session.id, "auth", facts)
        self._machine.err(f"{text} ({self._session.id})", code)
