"""Content on its way in: our Received field first, then what the client sends, straight into a draft of the spool.

The header section is looked at as soon as it is complete; plugins and house judge it while the body still arrives. What
is refused there is swallowed and said at end-of-data, as SMTP wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from gatepost.content.headers import HeaderScanner, Section, TooLarge, bridge
from gatepost.content.received import received_after, received_head, with_keyword
from gatepost.hooks.session import Session
from gatepost.hooks.transaction import Transaction
from gatepost.model import Blob, Bytes
from gatepost.serving.place import Place, Policy
from gatepost.store.draft import Draft

_ENOUGH = 6  # octets that tell whether content begins with something that would break our own field


class ReceivedFields:
    """Our own Received fields for the messages of one session; what they have in common is made when it changes."""

    __slots__ = ("_common", "_head", "_place", "_session")

    def __init__(self, place: Place, session: Session) -> None:
        self._place = place
        self._session = session
        self._common: tuple[object, ...] = ()
        self._head = ""

    def field(self, transaction: Transaction, *, extended: bool, utf8: bool) -> bytes:
        """The field for the content of a transaction."""
        session = self._session
        common = (session.helo, session.peer, session.tls, session.user, extended, utf8)
        if common != self._common:
            self._common = common
            self._head = received_head(
                helo=session.helo,
                address=session.peer.address,
                hostname=self._place.profile.hostname,
                keyword=self._place.policy.keyword
                or with_keyword(
                    lmtp=session.protocol == "lmtp",
                    extended=extended,
                    tls=session.tls is not None,
                    authenticated=session.user is not None,
                    utf8=utf8,
                ),
                tls=session.tls,
            )
        unix_time, offset_s = self._place.clock.unix()
        return received_after(
            self._head,
            ticket=str(transaction.ticket),
            unix_time=unix_time,
            offset_s=offset_s,
            recipients=[recipient.path for recipient in transaction.recipients[:2]],
        )


class Intake:
    """The content of one transaction. Invariant: until `swallowing`, the draft holds `received` and all octets so far;
    without a draft nothing is ever kept."""

    __slots__ = ("_digest", "_draft", "_first", "_received", "_scanner", "size")

    def __init__(self, draft: Draft | None, received: bytes, policy: Policy) -> None:
        self._draft = draft
        self._received = received
        self._first: bytes | None = b""
        self._scanner: HeaderScanner | None = HeaderScanner(policy.header_limits)
        self._digest = sha256(usedforsecurity=False)
        self.size = 0

    def write(self, data: bytes) -> Section | TooLarge | None:
        """Take in more. The header section when this completes it (or breaks its limits), otherwise None."""
        self.size += len(data)
        draft = self._draft
        if draft is None:
            return None
        self._digest.update(data)
        if self._first is not None:
            data = self._first + data
            if len(data) < _ENOUGH:
                self._first = data
                return None
            self._first = None
            draft.write(self._received + bridge(data[:_ENOUGH]) + data)
        else:
            draft.write(data)
        if self._scanner is None:
            return None
        found = self._scanner.feed(data)
        if found is not None:
            self._scanner = None
        return found

    def end(self) -> Section | TooLarge | None:
        """The content is complete: the header section, if it hadn't ended before."""
        if self._draft is None:
            return None
        if self._first is not None:
            data, self._first = self._first, None
            self._draft.write(self._received + bridge(data) + data)
            if self._scanner is not None and (found := self._scanner.feed(data)) is not None:
                return found
        if self._scanner is None:
            return None
        scanner, self._scanner = self._scanner, None
        return scanner.end()

    @property
    def swallowing(self) -> bool:
        """Whether nothing is kept of what comes."""
        return self._draft is None

    def swallow(self) -> None:
        """Keep nothing of what has come and will come. Again it does nothing: the draft is discarded once."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.discard()

    async def ready(self) -> None:
        """Back-pressure: wait until the draft takes more."""
        if self._draft is not None:
            await self._draft.ready()

    async def finish(self) -> Blob:
        """The whole content, with our Received field."""
        return await self.draft.finish()

    @property
    def draft(self) -> Draft:
        """The draft itself, for the commit."""
        if self._draft is None:
            raise RuntimeError("nothing was kept of this content")
        return self._draft

    @property
    def digest(self) -> Callable[[], bytes]:
        """Makes the digest of the client's octets."""
        return self._digest.digest

    def header_blob(self, section: Section) -> Blob:
        """What there is of the message at the `headers` stage."""
        return Bytes(self._received + bridge(section.raw[:_ENOUGH]) + section.raw)
