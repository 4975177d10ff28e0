"""AUTH: the mechanism runs in `wire.sasl`, a stage is asked who somebody is, and the house's users answer else.

The client hears the same refusal, after about the same time, whether the user or the password is wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, TypeVar

from gatepost.hooks import stages
from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.session import Session, Standing
from gatepost.hooks.verdicts import Credentials, Deny, Identity, Refuse
from gatepost.model import Reply
from gatepost.model.written import printable
from gatepost.serving.conclusion import stage_refusal
from gatepost.serving.place import Ground, Place, Users
from gatepost.wire import sasl
from gatepost.wire.smtp.server import ServerSession

WELCOME = Reply(235, "2.7.0", "authenticated")  # rfc4954#6
WRONG = Reply(535, "5.7.8", "wrong name or password")
UNABLE = Reply(454, "4.7.0", "authentication isn't possible now, try again later")
TOO_MANY = Reply(421, "4.7.0", "too many failed logins from your address, try again later")
MAX_ITERATIONS = 1_000_000
"""More than that in a plugin's keys would be a way to keep a thread busy."""

log = logging.getLogger("gatepost.serving")

T = TypeVar("T")


class Proving(ABC):
    """At most one exchange at a time. What is said to the client, and by which command, is the protocol's."""

    __slots__ = ("_exchange", "_held", "_keys_by", "_mechanism", "_place", "_session", "_user")

    stage: ClassVar[type[stages.Event]]
    """Who is asked before the house's users."""

    def __init__(self, place: Ground, session: Session) -> None:
        self._place = place
        self._session = session
        self._exchange: sasl.Exchange | None = None
        self._mechanism = ""
        self._user = ""
        """Who the client says it is, once its proof is being looked at."""
        self._held = ""
        """Why this login has waited, if it has."""
        self._keys_by = ""
        """The plugin whose keys a proof is held against; "" for the users' own."""

    @property
    @abstractmethod
    def _verbatim(self) -> bool:
        """Whether refusals leave as the plugins have said them."""

    @abstractmethod
    def _challenge(self, data: bytes) -> None:
        """Ask the client for its next response."""

    @abstractmethod
    async def _welcome(self, user: str, by: str, maildrop: str | None = None) -> None:
        """The client is this user, as `by` says."""

    @abstractmethod
    def _say_no(self, reply: Reply) -> None:
        """The client isn't: 535 for a wrong proof, 4xx for now, 421 which closes, another 5xx as a plugin said it."""

    async def begin(self, mechanism: str, initial: bytes | None) -> None:
        """An exchange of a mechanism that was offered, with the client's first response if it came at once."""
        self._user = self._held = ""
        if self._place.nonce is None:
            raise RuntimeError("AUTH was offered without entropy")
        self._mechanism = mechanism
        host = self._place.dispatcher.server.hostname
        self._exchange = sasl.Exchange(mechanism, nonce=self._place.nonce(), host=host)
        await self._go(self._exchange.start(initial))

    async def go_on(self, data: bytes) -> None:
        """The client's next response."""
        if self._exchange is None:
            raise RuntimeError("a response came without an exchange")
        await self._go(self._exchange.respond(data))

    async def _go(self, outcome: sasl.Outcome) -> None:
        match outcome:
            case sasl.Challenge(data):
                self._challenge(data)
            case sasl.Credentials(user, password):
                await self._verify(user, password)
            case sasl.Proof(user):
                await self._prove(user, outcome.fits)
            case sasl.NeedKeys(user):
                await self._find_keys(user)
            case sasl.Success(user):
                await self._proved(user)
            case sasl.Failure(reason) if self._user:
                await self._wrong(reason, self._user)
            case sasl.Failure(reason):  # no guess was made
                self._deny(WRONG, reason)

    async def _verify(self, user: str, password: str) -> None:
        if await self._is_held_up(user):
            return
        outcome = await self._ask(user, password)
        if await self._objected(outcome, user):
            return
        match outcome.verdict:
            case Identity(known, maildrop):
                await self._right(known, outcome.by, maildrop)
            case Credentials(keys):
                if (found := self._keys(keys, outcome.by, user)) is None:
                    return
                if await asyncio.to_thread(_fits, found, password):  # it is made to be slow
                    await self._right(user, outcome.by)
                else:
                    await self._wrong(f"wrong password, by the keys of {outcome.by}", user)
            case _:
                await self._judge(user, lambda users: users.verify(user, password), "wrong name or password")

    async def _prove(self, user: str, fits: Callable[[str], bool]) -> None:
        """A digest of the password, which `fits` holds against one that is kept in the clear."""
        if await self._is_held_up(user):
            return
        outcome = await self._ask(user, None)
        if await self._objected(outcome, user):
            return
        if isinstance(outcome.verdict, Identity | Credentials):
            self._deny(UNABLE, f"{outcome.by} answered where the password itself was needed", user)
            return
        reason = "wrong name or password, or the password isn't kept in the clear"
        await self._judge(user, lambda users: users.prove(user, fits), reason)

    async def _find_keys(self, user: str) -> None:
        exchange = self._exchange
        if exchange is None:
            raise RuntimeError("keys were asked for without an exchange")
        if await self._is_held_up(user):
            return
        outcome = await self._ask(user, None)
        if await self._objected(outcome, user):
            return
        match outcome.verdict:
            case Identity():
                self._deny(UNABLE, f"{outcome.by} named a user where keys were asked for", user)
            case Credentials(keys):
                if (found := self._keys(keys, outcome.by, user)) is not None:
                    self._keys_by = outcome.by
                    await self._go(exchange.keys(found))
            case _:
                self._keys_by = ""
                is_known, kept = await self._of_users(user, lambda users: users.scram_keys(user))
                if not is_known:
                    return
                scram = None
                if kept is not None:
                    scram = sasl.ScramKeys(kept.salt, kept.iterations, kept.stored_key, kept.server_key)
                await self._go(exchange.keys(scram))

    async def _proved(self, user: str) -> None:
        """The client's proof fits the keys of who has this login name, which may be an alias."""
        if self._keys_by:
            await self._right(user, self._keys_by)
            return
        await self._judge(user, lambda users: users.named(user), "the user is gone")

    async def _judge(self, user: str, ask: Callable[[Users], Awaitable[str | None]], reason: str) -> None:
        """The client is whom the house's users name; where they name nobody, this is the reason."""
        is_known, name = await self._of_users(user, ask)
        if not is_known:
            return
        if name is None:
            await self._wrong(reason, user)
        else:
            await self._right(name, "the users")

    async def _of_users(self, user: str, ask: Callable[[Users], Awaitable[T | None]]) -> tuple[bool, T | None]:
        """What the house's users say, None without any; (False, None) where they can't, and the client has heard so."""
        try:
            users = self._place.users
            return True, None if users is None else await ask(users)
        except Exception as error:  # noqa: BLE001  whatever the users' source can't do is temporary
            self._unable(error, user)
            return False, None

    async def _objected(self, outcome: Outcome, user: str) -> bool:
        """Whether the stage has said no; then the client has heard it."""
        match outcome.verdict:
            case Deny(reason):
                await self._wrong(reason or f"denied by {outcome.by}", user)
            case Refuse(said):
                reply = self._refusal(said)
                if reply.code == WRONG.code:  # a wrong password by another name
                    await self._count(user)
                self._deny(reply, f"refused by {outcome.by}", user)
            case _:
                return False
        return True

    async def _is_held_up(self, user: str) -> bool:
        """Let a login wait that follows too many failures; whether it isn't looked at, and the client knows."""
        self._user, self._held = user, ""
        limits, peer = self._place.failed_logins, self._session.peer.address
        if limits is None or (hold := await limits.ahead(user, peer)) is None:
            return False
        if hold.is_final:
            self._deny(TOO_MANY, hold.why, user)
            return True
        if await limits.wait(hold, peer):
            self._held = f"{hold.wait_s:.1f} s, after {printable(hold.why[:200])}"
        elif hold.is_shared:
            self._held = f"not at all, since too many wait, after {printable(hold.why[:200])}"
        else:
            self._deny(TOO_MANY, f"{hold.why}, and too many wait", user)
            return True
        return False

    async def _right(self, user: str, by: str, maildrop: str | None = None) -> None:
        if (limits := self._place.failed_logins) is not None:
            await limits.succeeded(self._user, self._session.peer.address)
        await self._welcome(user, by, maildrop)

    async def _wrong(self, reason: str, user: str) -> None:
        """A proof that failed, which counts."""
        await self._count(user)
        self._deny(WRONG, reason, user)

    async def _count(self, user: str) -> None:
        if (limits := self._place.failed_logins) is not None:
            await limits.failed(user, self._session.peer.address)

    def _keys(self, given: Mapping[str, Any], by: str, user: str) -> sasl.ScramKeys | None:
        """A plugin's keys; None, and the client has its answer, if they aren't any."""
        try:
            found = sasl.ScramKeys(
                bytes(given["salt"]),
                int(given["iterations"]),
                bytes(given["stored_key"]),
                bytes(given["server_key"]),
            )
            if not 1 <= found.iterations <= MAX_ITERATIONS or {len(found.stored_key), len(found.server_key)} != {32}:
                raise ValueError("sizes that SCRAM-SHA-256 doesn't have")
        except (KeyError, TypeError, ValueError) as error:
            self._deny(UNABLE, f"{by} gave keys that aren't any: {error}", user)
            return None
        return found

    async def _ask(self, user: str, password: str | None) -> Outcome:
        dispatcher = self._place.dispatcher
        if self.stage not in dispatcher.chains:
            return Outcome(pending=WELCOME)
        facts = {"mechanism": self._mechanism, "user": user, "password": password}
        return await dispatcher.ask(Question(self.stage, self._session, WELCOME, facts=facts))

    def _refusal(self, said: Reply | str) -> Reply:
        reply = stage_refusal(self.stage, said, self._session.id, self._verbatim)
        if reply.is_permanent:
            return reply
        if reply.code == 421:  # which always closes
            return Reply(421, "4.7.0", reply.text)
        return Reply(454, "4.7.0", reply.text)  # rfc4954#6: the temporary failure of AUTH

    def _is_shown(self, user: str, by: str) -> bool:
        """Whether a name can stand in headers and on pages; if not, the client has its answer."""
        if not user.isprintable():
            self._deny(UNABLE, f"{by} named a user by what can't be shown", user)
            return False
        return True

    def _unable(self, error: Exception, user: str) -> None:
        log.error("a user couldn't be verified; token %s", self._session.id, exc_info=error)
        self._deny(UNABLE, f"{type(error).__name__}: {error}"[:200], user)

    def _deny(self, reply: Reply, reason: str, user: str = "") -> None:
        self._exchange = None
        self._user = ""
        facts = {
            "user": printable(user[:100]),
            "mechanism": self._mechanism,
            "failed": printable(reason),
            "reply": str(reply),
            **self._waited(),
        }
        self._place.recorder.record(self._session.id, "auth", facts)
        self._say_no(reply)

    def _waited(self) -> dict[str, str]:
        """For the record."""
        return {"waited": self._held} if self._held else {}


class Authentication(Proving):
    """AUTH within SMTP: at most one success per session (RFC 4954 §4)."""

    __slots__ = ("_machine", "_mail_place")

    stage = stages.Auth

    def __init__(self, place: Place, machine: ServerSession, session: Session) -> None:
        super().__init__(place, session)
        self._mail_place = place
        self._machine = machine

    @property
    def _verbatim(self) -> bool:
        return self._mail_place.policy.verbatim

    def _challenge(self, data: bytes) -> None:
        self._machine.challenge(data)

    def _say_no(self, reply: Reply) -> None:
        self._machine.answer(reply)

    async def _welcome(self, user: str, by: str, maildrop: str | None = None) -> None:
        session = self._session
        if not self._is_shown(user, by):
            return
        session.user = user
        session.mechanism = self._mechanism
        session.standing = Standing(False, session.standing.quarantine, session.standing.discard)
        self._exchange = None
        self._place.recorder.record(session.id, "auth", {"user": user, "mechanism": self._mechanism, **self._waited()})
        self._machine.answer(WELCOME)


def _fits(keys: sasl.ScramKeys, password: str) -> bool:
    """Whether the keys were made of this password (rfc5802#3)."""
    prepared = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    salted = hashlib.pbkdf2_hmac("sha256", prepared, keys.salt, keys.iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key)
