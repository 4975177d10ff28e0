"""Certificates, and TLS to other servers: the section [tls]. [[tls.policy]] goes before what a route says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import AnyPath, Text, Texts, shown, wrong
from gatepost.model import AddressError, Path

Level = Literal[
    "none",
    "starttls",
    "encrypt",
    "required",
    "secure",
    "implicit",
    "dane",
    "dane-only",
    "mta-sts",
    "published",
]
LEVELS = (
    "never (none), where offered (starttls), always but with anybody (encrypt), always and with a trusted certificate "
    "of the host's name (required; implicit from the first octet) or of the recipient's domain's (secure), as DANE "
    "says where the DNS has it securely (dane) or not at all (dane-only), as the domain's MTA-STS policy says "
    "(mta-sts), as whatever of the two it publishes (published). Where nothing is published, dane, mta-sts and "
    "published are starttls."
)
PROVEN = frozenset({"required", "secure", "implicit", "dane-only"})
"""Levels under which nobody else can be at the other end."""
BY_DOMAIN = frozenset({"secure", "mta-sts", "published"})
"""Levels that need a recipient's domain."""


class Certificate(Section):
    """A certificate and its key, both PEM. The names in the certificate choose it by SNI; the first is the fallback."""

    chain: AnyPath = Field(description="The certificate, followed by its intermediate certificates.")
    key: AnyPath = Field(description="The private key, without a passphrase.")


class TlsPolicy(Section):
    """Another level for some destinations; the first that matches wins, over what the route says."""

    match: Texts = Field(
        description='Recipients\' domains, or hosts: "example.org", "*.example.org" for every name below it, or "*".'
    )
    tls: Level | None = Field(default=None, description=f"Whether the connection is encrypted: {LEVELS}")
    certificate: Certificate | None = Field(
        default=None, description="The certificate shown there, if not the one of [tls.client]."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> TlsPolicy:
        if self.tls is None and self.certificate is None:
            wrong("this policy says nothing", mend='tls = "required"')
        for pattern in self.match:
            if "@" in pattern or "*" in pattern.removeprefix("*.").removeprefix("*") or not pattern:
                domain = pattern.rpartition("@")[2].lstrip("*.") or "example.org"
                wrong(f"{shown(pattern)} is no domain and no host", at=("match",), mend=f'match = "*.{domain}"')
        return self


class TlsReports(Section):
    """TLS reports (RFC 8460): domains that ask for it are told daily how TLS with their servers went."""

    contact: Text | None = Field(
        default=None, description="The address they are sent from and answered to; without one none are sent."
    )
    organization: Text | None = Field(default=None, description="Who reports; without it the contact's domain.")

    @model_validator(mode="after")
    def _can_be_reached(self) -> TlsReports:
        if self.contact is not None:
            try:
                Path.parse(self.contact)
            except AddressError as error:
                wrong(f"{shown(self.contact)}: {error}", at=("contact",), mend='contact = "tls-reports@example.org"')
        return self


class TlsSettings(Section):
    """Certificates for all listeners, reread when their files change; and how TLS with other servers is made."""

    certificate: tuple[Certificate, ...] = Field(default=(), description="One table for each certificate.")
    client: Certificate | None = Field(
        default=None, description="The certificate shown to other servers that ask for one; reread when it changes."
    )
    policy: tuple[TlsPolicy, ...] = Field(
        default=(), description="One table for each group of destinations that wants another level than its route's."
    )
    reports: TlsReports = Field(default=TlsReports(), description="TLS reports to other domains.")
