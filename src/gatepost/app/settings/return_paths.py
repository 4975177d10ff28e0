"""Return paths of ours: SRS for mail that is forwarded, BATV for mail of our own senders."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import Days, Kind, SecretText, Switch, Text, Texts, parse_several, shown, wrong
from gatepost.model import AddressError
from gatepost.model.path import parse_domain

SHORTEST = 16  # characters of a secret
Secrets = Annotated[
    tuple[SecretText, ...],
    BeforeValidator(parse_several),
    Kind("secret: text, @file or env:NAME, one or several", lambda secrets: "…" if secrets else "[]"),
]


class SrsSettings(Section):
    """Return paths for mail that is forwarded: `SRS0=…@domain`, from which bounces find back to the sender. Off without
    a secret.
    """

    domain: Text | None = Field(
        default=None, description="The domain of the return paths, one whose mail comes here; default: hostname."
    )
    secret: Secrets = Field(
        default=(),
        description=f"What signs them, {SHORTEST} characters or more; further ones are good for reading, so that they "
        "can change in turn.",
    )
    days: Days = Field(default=21, ge=1, le=365, description="How long a bounce may come back.")
    relayed: Texts = Field(
        default=(),
        description='Patterns of recipients whose mail is forwarded by relay, such as "*@elsewhere.example"; what '
        "leaves by mx needs none.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> SrsSettings:
        _check_secrets(self.secret)
        if (self.domain or self.relayed) and not self.secret:
            wrong("without a secret anybody could make return paths", mend='secret = "@secrets/srs"')
        if self.domain:
            try:
                parse_domain(self.domain)
            except AddressError as error:
                wrong(f"{shown(self.domain)}: {error}", at=("domain",), mend='domain = "example.org"')
        return self


class BatvSettings(Section):
    """Signatures in the return paths of our own senders: `prvs=…`, so that bounces of mail we never sent are known. Off
    without a secret.
    """

    secret: Secrets = Field(
        default=(),
        description=f"What signs, {SHORTEST} characters or more; further ones are good for checking, so that they can "
        "change in turn.",
    )
    days: Days = Field(default=7, ge=1, le=365, description="How long a bounce may come back.")
    domains: Texts = Field(
        default=(), description="The domains whose senders are signed; default: all that routes name."
    )
    refuse_unsigned: Switch = Field(
        default=False,
        description="Refuse bounces to addresses of these domains that aren't signed; only where all their mail leaves "
        "through this server.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> BatvSettings:
        _check_secrets(self.secret)
        if (self.domains or self.refuse_unsigned) and not self.secret:
            wrong("without a secret nothing can be signed", mend='secret = "@secrets/batv"')
        return self


def _check_secrets(secrets: tuple[SecretText, ...]) -> None:
    for number, secret in enumerate(secrets):
        if len(secret.reveal()) < SHORTEST:
            what = f"a secret of fewer than {SHORTEST} characters can be guessed"
            wrong(what, at=("secret", number), mend='secret = "@secrets/NAME", from: openssl rand -hex 32')
