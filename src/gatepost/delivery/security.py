"""What a connection to a server has to have of TLS: levels as settings say them, and the protection of one host.

A level is what somebody wants; a `Protection` is what became of it for one host, once the DNS and the domain's policy
were asked. It is a value: destinations whose hosts are protected alike share sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatepost.net.certificates import Pair
from gatepost.net.dane import DANE_EE, DANE_TA, Tlsa

if TYPE_CHECKING:
    from gatepost.delivery.handshakes import Trouble


class Security(Enum):
    """Whether a connection is encrypted, and who may answer. The values are the settings' words."""

    NONE = "none"
    STARTTLS = "starttls"  # where it is offered, without asking who answers (rfc7435)
    ENCRYPT = "encrypt"  # always, without asking who answers
    REQUIRED = "required"  # always, with a trusted certificate of the host's name
    SECURE = "secure"  # the same, of the recipient's domain's name: the DNS can't name another
    IMPLICIT = "implicit"  # required, from the first octet on
    DANE = "dane"  # as the DNS says securely (rfc7672); without it as starttls
    DANE_ONLY = "dane-only"
    MTA_STS = "mta-sts"  # as the domain's policy says (rfc8461); without one as starttls
    PUBLISHED = "published"  # whatever of the two the domain publishes; else starttls

    @property
    def asks_dns(self) -> bool:
        """Whether DANE counts."""
        return self in (Security.DANE, Security.DANE_ONLY, Security.PUBLISHED)

    @property
    def asks_policy(self) -> bool:
        """Whether MTA-STS counts."""
        return self in (Security.MTA_STS, Security.PUBLISHED)


class PolicyKind(Enum):
    """Where a policy came from, in the words of reports (RFC 8460 §4.2)."""

    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


@dataclass(frozen=True, slots=True)
class PolicyFound:
    """A domain's policy, as reports tell it: its text line by line, and the hosts it admits."""

    domain: str
    kind: PolicyKind = PolicyKind.NONE
    text: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class Trust(Enum):
    """Whose certificate is good."""

    ANYBODY = "anybody"
    HOST = "the host's name, by an authority of the system"
    NAMES = "one of several names, by an authority of the system"
    LEAF = "the certificate in the DNS"
    ANCHOR = "one of the names, by the authority in the DNS"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to try: TLS or not, whether it must be, and whom to trust. A trial is told of and doesn't decide."""

    tls: bool
    must: bool = False
    trust: Trust = Trust.ANYBODY
    is_trial: bool = False


_IN_THE_CLEAR = Way(tls=False)
_OPPORTUNISTIC = (Way(tls=True), _IN_THE_CLEAR)  # rfc7435#3: better in the clear than not at all
_LEVELS: Mapping[Security, tuple[Way, ...]] = MappingProxyType(
    {
        Security.NONE: (_IN_THE_CLEAR,),
        Security.STARTTLS: _OPPORTUNISTIC,
        Security.ENCRYPT: (Way(tls=True, must=True),),
        Security.REQUIRED: (Way(tls=True, must=True, trust=Trust.HOST),),
        Security.SECURE: (Way(tls=True, must=True, trust=Trust.NAMES),),
        Security.IMPLICIT: (Way(tls=True, must=True, trust=Trust.HOST),),
    }
)
_TRIAL = Way(tls=True, must=True, trust=Trust.HOST, is_trial=True)


@dataclass(frozen=True, slots=True)
class Protection:
    """What is asked of the connection to one host.

    `level` is one that asks nobody any more. `names` are those a certificate may have where the host's alone doesn't
    count; with DANE `records` hold what it must match. `refusal` says why the host isn't called at all. `is_tried`: a
    domain tests its policy, which is to be told of but not to be kept (rfc8461#5). `identity` is the certificate shown,
    if not the usual one. `found` and `trouble` are for reports, and make no difference: what is wrong before anybody is
    called.
    """

    level: Security = Security.STARTTLS
    names: tuple[str, ...] = ()
    records: tuple[Tlsa, ...] = ()
    refusal: str = ""
    is_tried: bool = False
    identity: Pair | None = None
    found: PolicyFound | None = field(default=None, compare=False)
    trouble: Trouble | None = field(default=None, compare=False)

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways to try, each with a connection of its own; the next only where TLS failed."""
        if self.level in (Security.DANE, Security.DANE_ONLY):
            usages = {record.usage for record in self.records}
            trusts = [trust for usage, trust in _BY_USAGE if usage in usages]
            return tuple(Way(tls=True, must=True, trust=trust) for trust in trusts)
        if self.is_tried:
            return (_TRIAL, *_OPPORTUNISTIC)
        return _LEVELS.get(self.level, _OPPORTUNISTIC)


_BY_USAGE = ((DANE_EE, Trust.LEAF), (DANE_TA, Trust.ANCHOR))
