"""The settings as a whole: the keys of the file itself, its listeners and users, and the sections below.

`Settings` is made by `load` (gatepost.app.settings.loading) or by its two class methods; it is frozen, and remembers in
private where each value came from.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from gatepost.app.settings.collect import Collect
from gatepost.app.settings.dkim import Dkim
from gatepost.app.settings.name_servers import Dns
from gatepost.app.settings.origins import Origins
from gatepost.app.settings.plugins import Plugin
from gatepost.app.settings.pop3 import Pop3
from gatepost.app.settings.return_paths import BatvSettings, SrsSettings
from gatepost.app.settings.routes import Route
from gatepost.app.settings.sections import Delivery, Limits, Log, Section, Smtp, Spool, Trace
from gatepost.app.settings.tls import TlsSettings
from gatepost.app.settings.units import (
    Address,
    AnyPath,
    Filled,
    Kind,
    Switch,
    Text,
    Texts,
    Trusted,
    parse_several,
    parse_whole,
    shown,
    wrong,
)
from gatepost.app.settings.users import Alias, User, Users
from gatepost.model import AddressError
from gatepost.model.path import parse_domain

LOOPBACK = "127.0.0.1:2525"
_PROTOCOLS_TO_COME = {"http": "the admin pages"}


def machine_name() -> str:
    """The machine's own name, without asking anybody; "localhost" if that isn't one."""
    try:
        return parse_domain(socket.gethostname())
    except AddressError:
        return "localhost"


class Listener(Section):
    """A place where sessions begin."""

    name: Annotated[Text, Filled("the protocol, numbered from the second")] = Field(
        default="", description="Its name in logs, rules and commands."
    )
    address: Address = Field(
        description='The IP address and port, such as "0.0.0.0:25" or "[::]:25"; port 0: any free one.'
    )
    protocol: Literal["smtp", "submission", "lmtp", "pop3"] = Field(default="smtp", description="What is spoken there.")
    tls: Annotated[
        Literal["none", "starttls", "implicit"], Filled('"starttls" with a certificate; "none" without, and for lmtp')
    ] = Field(default="none", description="How TLS begins.")
    auth: Annotated[Literal["off", "on", "required"], Filled('"required" for submission and pop3, else "off"')] = Field(
        default="off", description="Whether clients may or must authenticate."
    )
    auth_without_tls: Switch = Field(
        default=False, description="Let clients authenticate on a plain connection too, where passwords can be read."
    )
    own_addresses_only: Switch = Field(
        default=True,
        description="Whether an authenticated user may send only as his own addresses (name, aliases, send_as).",
    )
    proxy_protocol: Trusted = Field(
        default=(),
        description="Load balancers that begin each connection with a PROXY header, which names the client; without it "
        "they are closed, and from others it is refused.",
    )
    xclient: Trusted = Field(
        default=(),
        description="Servers in front that may say by XCLIENT for which client they speak, and as whom it has "
        "authenticated; they are believed.",
    )
    xforward: Trusted = Field(
        default=(), description="Servers in front that may name the client by XFORWARD, for the record."
    )

    @model_validator(mode="before")
    @classmethod
    def _exists(cls, value: Any) -> Any:
        protocol = str(value.get("protocol", "")) if isinstance(value, Mapping) else ""
        if protocol in _PROTOCOLS_TO_COME:
            what = f"{_PROTOCOLS_TO_COME[protocol]} aren't in this version"
            wrong(what, at=("protocol",), mend='protocol = "smtp", "submission", "lmtp" or "pop3"')
        return value


def _parse_workers(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, str) and not value.strip().isdecimal():
        wrong(f"workers can't be {shown(value)}", mend='"auto" or a number from 1')
    number = parse_whole(value)
    if not 1 <= number <= 1024:
        wrong(f"workers can't be {number}", mend='"auto" or a number from 1 to 1024')
    return number


class Settings(Section):
    """Every setting of a server, checked, with every default filled in. Frozen."""

    hostname: Annotated[Text, Filled("the machine's name")] = Field(
        default_factory=machine_name, description="The server's name in greetings, Received and notices."
    )
    data: AnyPath | None = Field(
        default=Path("gatepost-data"), description="The folder of spool, maildrops, ledger, trace and control socket."
    )
    workers: Annotated[int | Literal["auto"], BeforeValidator(_parse_workers), Kind('processes, or "auto"')] = Field(
        default="auto", description="How many processes receive mail; auto is one for each processor."
    )
    run_as: Text | None = Field(
        default=None, description='Whose privileges are left once the sockets are bound: "user" or "user:group".'
    )
    never: Annotated[
        tuple[Literal["quarantine", "discard"], ...], BeforeValidator(parse_several), Kind('"quarantine", "discard"')
    ] = Field(
        default=(), description="Promises: settings under which mail could be quarantined or discarded are refused."
    )
    include: Texts = Field(
        default=(), description='Further files, by patterns relative to this one, such as "conf.d/*.toml".'
    )
    listen: tuple[Listener, ...] = Field(default=(), description="One table for each listener.")
    tls: TlsSettings = Field(default=TlsSettings(), description="Certificates, and TLS to other servers.")
    limits: Limits = Field(default=Limits(), description="What one peer, session or message may use.")
    smtp: Smtp = Field(default=Smtp(), description="How SMTP is spoken.")
    pop3: Pop3 = Field(default=Pop3(), description="How POP3 is spoken.")
    route: tuple[Route, ...] = Field(
        default=(), description="Where mail goes; the first that matches wins, no route is a refusal."
    )
    delivery: Delivery = Field(default=Delivery(), description="How accepted mail leaves.")
    srs: SrsSettings = Field(default=SrsSettings(), description="Return paths for mail that is forwarded.")
    batv: BatvSettings = Field(default=BatvSettings(), description="Signatures in the return paths of our own senders.")
    dns: Dns = Field(default=Dns(), description="How names are looked up.")
    dkim: tuple[Dkim, ...] = Field(default=(), description="Whose mail is signed as it leaves, and with which keys.")
    trace: Trace = Field(default=Trace(), description="The record of decisions.")
    spool: Spool = Field(default=Spool(), description="Where accepted mail rests.")
    user: tuple[User, ...] = Field(
        default=(), description="One table for each user; others are kept by `gatepost user`."
    )
    users: Users = Field(default=Users(), description="What concerns all users, and which addresses lead to them.")
    alias: tuple[Alias, ...] = Field(
        default=(), description="One table for each address whose mail goes to others, here or elsewhere."
    )
    collect: tuple[Collect, ...] = Field(
        default=(), description="One table for each maildrop on another server, whose mail is fetched by POP3."
    )
    plugin: tuple[Plugin, ...] = Field(
        default=(), description="One table for each plugin, asked by priority, then in this order."
    )
    log: Log = Field(default=Log(), description="What the server says about itself.")

    _origins: Origins = PrivateAttr(default_factory=Origins)
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """The file the settings were read from; None without one."""
        return self._file

    @property
    def mail_listeners(self) -> tuple[Listener, ...]:
        """Those that take mail."""
        return tuple(one for one in self.listen if one.protocol != "pop3")

    @property
    def has_pop3(self) -> bool:
        """Whether mailboxes are shown."""
        return any(one.protocol == "pop3" for one in self.listen)

    @property
    def has_lists(self) -> bool:
        """Whether any route leads to a mailing list."""
        return any(route.deliver.by == "list" for route in self.route)

    @property
    def has_logins(self) -> bool:
        """Whether anybody may log in anywhere."""
        return any(one.protocol == "pop3" or one.auth != "off" for one in self.listen)

    @property
    def sends_on(self) -> bool:
        """Whether mail goes on to other servers, and not only into mailboxes."""
        return any(route.deliver.by in ("relay", "lmtp", "mx") for route in self.route)

    @property
    def origins(self) -> Origins:
        """Where each value came from."""
        return self._origins

    def without_origins(self) -> Settings:
        """The same settings, without the text of the files they were read from."""
        bare = self.model_copy()
        bare._origins = Origins()
        return bare

    @classmethod
    def embedded_defaults(cls) -> Settings:
        """What `gatepost run` uses without a file: loopback only, every recipient accepted into ./gatepost-data."""
        return cls.model_validate(without_file())

    @classmethod
    def in_memory(cls, **by_name: Any) -> Settings:
        """For `Server(...)` in Python: nothing is written to disk, every recipient is accepted unless keys differ.

        `listen` may be one address, `plugin` one source. Raises SettingsError.
        """
        from gatepost.app.settings.loading import load

        return load(None, environ={}, overrides={"data": None, **by_name})

    def with_plugins(self, *sources: str | os.PathLike[str]) -> Settings:
        """The same settings with further plugins behind those named: files, or `package.module:attribute`."""
        added = tuple(Plugin.model_validate(source if isinstance(source, str) else Path(source)) for source in sources)
        return self.model_copy(update={"plugin": (*self.plugin, *added)})

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, value: Any) -> Any:
        """Short forms, and the defaults that depend on other keys."""
        if not isinstance(value, Mapping):
            return value
        filled = dict(value)
        if isinstance(filled.get("user"), str):
            wrong("[[user]] tables are mail users", at=("user",), mend=f"run_as = {shown(filled['user'])}")
        if isinstance(listen := filled.get("listen"), str):
            filled["listen"] = [{"address": listen}]
        if isinstance(plugin := filled.get("plugin"), str | Path):
            filled["plugin"] = [plugin]
        if isinstance(filled.get("listen"), list | tuple):
            tls = filled.get("tls")
            has_certificate = isinstance(tls, Mapping) and bool(tls.get("certificate"))
            filled["listen"] = _fill_in_listeners(filled["listen"], has_certificate)
        return filled


def without_file() -> dict[str, Any]:
    """The tree that stands for the file where there is none."""
    return {
        "data": "gatepost-data",
        "listen": [{"address": LOOPBACK}],
        "route": [{"match": "*", "deliver": "maildir", "for": "anyone", "recipients": "any"}],
    }


def _fill_in_listeners(listeners: Any, has_certificate: bool) -> list[Any]:
    filled: list[Any] = []
    counts: dict[str, int] = {}
    for listener in listeners:
        if isinstance(listener, str):
            listener = {"address": listener}  # noqa: PLW2901  the short form
        if not isinstance(listener, Mapping):
            filled.append(listener)
            continue
        protocol = str(listener.get("protocol", "smtp"))
        counts[protocol] = counts.get(protocol, 0) + 1
        by_protocol = {
            "name": protocol if counts[protocol] == 1 else f"{protocol}{counts[protocol]}",
            "tls": "starttls" if has_certificate and protocol != "lmtp" else "none",
            "auth": "required" if protocol in ("submission", "pop3") else "off",
        }
        filled.append({**by_protocol, **listener})
    return filled
