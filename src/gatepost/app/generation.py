"""One generation: settings turned into plugins, a dispatcher, and a place for each listener. Immutable once made.

A reload makes another generation beside this one; sessions keep the one they began with, and its plugins are closed
when the last of them has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatepost.app.return_paths import returning
from gatepost.app.settings.root import Listener, Settings
from gatepost.content.headers import Limits as HeaderLimits
from gatepost.content.view import Files
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.notices import Notice
from gatepost.hooks.ports import Clock, Recorder
from gatepost.hooks.session import Holder, ServerView
from gatepost.hooks.stages import PER_RECIPIENT, Auth, Command, Event, OutMessage, Replying
from gatepost.model import Address
from gatepost.plugins.loaded import Loaded, PluginError
from gatepost.serving.failed_logins import FailedLogins
from gatepost.serving.house import Gate, GateHouse
from gatepost.serving.limits import SessionCounter
from gatepost.serving.patience import LoopPatience
from gatepost.serving.place import Disagreement, Ground, Place, Policy, Timeouts, Trust, Users, tell
from gatepost.serving.proxied import ProxyDoor
from gatepost.serving.repeats import Repeats
from gatepost.serving.tokens import Tokens
from gatepost.store.mailboxes import Mailboxes
from gatepost.store.spool import Spool
from gatepost.store.users import Offers
from gatepost.wire.sasl import MECHANISMS
from gatepost.wire.smtp.profile import BareNewline, Profile
from gatepost.wire.smtp.states import Protocol

log = logging.getLogger("gatepost")

NOBODY_IN_THE_CLEAR = (
    "a plugin decides about logins, or no user's password is kept in the clear; gatepost user passwd NAME --keep-plain"
)
_WITH_CONTENT = PER_RECIPIENT | {OutMessage}


@dataclass(slots=True)
class Surroundings:
    """What outlives generations: the worker's stores and ports, made once."""

    spool: Spool
    clock: Clock
    patience: LoopPatience
    recorder: Recorder
    counter: SessionCounter
    tokens: Tokens
    repeats: Repeats | None = None
    users: Users | None = None
    mailboxes: Mailboxes | None = None
    """None where no listener shows maildrops."""
    files: Files | None = None
    facts: Any = None
    resolver: Any = None
    holder: Holder = field(default_factory=Holder)
    """What plugins keep as long as the worker lives."""
    certificate: Callable[[str], ssl.SSLContext] | None = None
    """A listener's TLS context, reread when its files change."""
    lookup: Callable[[Address], Coroutine[Any, Any, str | None]] | None = None
    may_send_as: Callable[[str, str], bool] | None = None
    has_room: Callable[[int], bool] | None = None
    """Whether the disk takes a message of so many octets."""


def _no_place(listener: Listener) -> Place:
    raise RuntimeError(f"this generation has no places, so none for {listener.name} either")


@dataclass(slots=True)
class Generation:
    """Settings in effect. `places` by listener name."""

    settings: Settings
    plugins: list[Loaded]
    dispatcher: Dispatcher
    places: dict[str, Ground] = field(default_factory=dict)
    notices: dict[type[Notice], list[Callable[[Any], Any]]] = field(default_factory=dict)
    """Who is told of what, wherever it happens."""
    patience: LoopPatience = field(default_factory=LoopPatience)
    place_for: Callable[[Listener], Place] = field(default=_no_place, repr=False)
    """A place for sessions that begin at none of the listeners."""
    offered: Offers | None = None
    """What of logins the users made possible when the places were made."""
    renew: Callable[[], None] = field(default=lambda: None, repr=False)
    """Make the places anew, as the users are now."""
    _sessions: int = 0
    _unused: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, notice: Notice) -> None:
        """Tell whoever is bound to it; nobody waits."""
        tell(self.notices, self.patience, notice)

    def begin_session(self) -> None:
        """One session more uses it."""
        self._sessions += 1
        self._unused.clear()

    def end_session(self) -> None:
        """One session fewer."""
        self._sessions -= 1
        if not self._sessions:
            self._unused.set()

    async def unused(self) -> None:
        """Wait until no session uses it."""
        if self._sessions:
            await self._unused.wait()

    async def open(self) -> None:
        """Open the plugins, in order. If one can't be, all are closed again."""
        try:
            for plugin in self.plugins:
                await plugin.open(self.dispatcher.server)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> list[Exception]:
        """Close the plugins, last opened first; what went wrong."""
        errors: list[Exception] = []
        for plugin in reversed(self.plugins):
            try:
                await plugin.close()
            except Exception as error:  # noqa: BLE001  the others are closed too
                errors.append(error)
        return errors


def make_generation(
    settings: Settings,
    plugins: Sequence[Loaded],
    gates: Sequence[Gate],
    around: Surroundings,
) -> Generation:
    """Join everything; nothing is opened yet. PluginError where a promise of the settings can't be kept."""
    bindings = [binding for plugin in plugins for binding in plugin.bindings]
    _check_promises(settings, plugins)
    server = ServerView(settings.hostname, around.clock, around.facts, around.resolver, around.holder)
    own_only = frozenset(one.name for one in settings.listen if one.auth != "off" and one.own_addresses_only)
    house = GateHouse(
        gates,
        may_send_as=around.may_send_as,
        own_addresses_at=own_only,
        has_room=around.has_room,
        returning=returning(settings, lambda: around.clock.unix()[0]),
    )
    limits = settings.limits

    def budget(stage: type[Event]) -> float:
        return limits.message_budget if stage in _WITH_CONTENT else limits.question_budget

    dispatcher = Dispatcher(
        bindings,
        server=server,
        house=house,
        clock=around.clock,
        patience=around.patience,
        recorder=around.recorder,
        budget=budget,
        never=frozenset(settings.never),
    )
    generation = Generation(settings, list(plugins), dispatcher, patience=around.patience)
    notices = generation.notices
    for plugin in plugins:
        for notice, told in plugin.told:
            notices.setdefault(notice, []).append(told)
    failures = counting_failures(settings, around)
    generation.place_for = lambda listener: _place(settings, listener, dispatcher, house, around, notices, failures)

    def make_places() -> None:
        generation.offered = getattr(around.users, "offers", None)
        for listener in settings.listen:
            if listener.protocol == "pop3":
                from gatepost.app.pop3 import pop_place

                generation.places[listener.name] = pop_place(settings, listener, dispatcher, around, notices, failures)
                continue
            generation.places[listener.name] = generation.place_for(listener)

    generation.renew = make_places
    make_places()
    return generation


def _place(
    settings: Settings,
    listener: Listener,
    dispatcher: Dispatcher,
    house: GateHouse,
    around: Surroundings,
    notices: Mapping[type[Notice], Sequence[Callable[[Any], Any]]],
    failures: FailedLogins | None,
) -> Place:
    limits, smtp = settings.limits, settings.smtp
    certificate = around.certificate
    tls = None if certificate is None or listener.tls == "none" else lambda: certificate(listener.name)
    return Place(
        listener=listener.name,
        profile=profile(settings, listener, dispatcher.chains, mechanisms(settings, around, Auth in dispatcher.chains)),
        dispatcher=dispatcher,
        house=house,
        spool=around.spool,
        tokens=around.tokens,
        clock=around.clock,
        patience=around.patience,
        recorder=around.recorder,
        counter=around.counter,
        timeouts=Timeouts(
            command=limits.command_timeout,
            content_piece=limits.data_timeout,
            content=limits.message_deadline,
            handshake=limits.tls_timeout,
            flush=limits.reply_timeout,
        ),
        policy=Policy(
            recipients_disagree=Disagreement(smtp.recipients_disagree),
            verbatim=smtp.verbatim,
            header_limits=HeaderLimits(limits.header_size, limits.header_count),
            max_hops=limits.hops,
            complete_headers=listener.protocol == "submission",
        ),
        users=around.users if listener.auth != "off" else None,
        trust=Trust(listener.xclient, listener.xforward) if listener.xclient or listener.xforward else None,
        door=ProxyDoor(listener.name, listener.proxy_protocol, within_s=limits.proxy_timeout)
        if listener.proxy_protocol
        else None,
        introduces=any(route.deliver.introduce is not None for route in settings.route),
        tls=tls,
        repeats=around.repeats,
        files=around.files,
        lookup=around.lookup,
        nonce=nonce,
        failed_logins=failures,
        notices=notices,
    )


def profile(
    settings: Settings, listener: Listener, chains: Mapping[type[Event], object], mechanisms: tuple[str, ...]
) -> Profile:
    """What the wire machine has to know of the settings. `mechanisms` are those that every user source can answer."""
    limits, smtp = settings.limits, settings.smtp
    return Profile(
        hostname=settings.hostname,
        protocol=Protocol(listener.protocol),
        command_line=limits.command_line,
        text_line=limits.text_line,
        message_size=limits.message_size,
        recipients=limits.recipients,
        errors=limits.errors,
        junk=limits.junk_commands,
        transactions=limits.transactions_per_session,
        auth_attempts=limits.auth_attempts,
        bare_newline=BareNewline(smtp.bare_newline),
        pipelining=smtp.pipelining,
        smtputf8=smtp.smtputf8,
        chunking=smtp.chunking,
        prdr=smtp.prdr and listener.protocol != "lmtp",
        dsn=smtp.dsn,
        requiretls=smtp.requiretls and listener.tls != "none",
        starttls=listener.tls == "starttls",
        require_auth=listener.auth == "required",
        auth=mechanisms if listener.auth != "off" else (),
        auth_without_tls=listener.auth_without_tls,
        ask_lines=Command in chains or Replying in chains,
        ask_replies=Replying in chains,
    )


def _check_promises(settings: Settings, plugins: Sequence[Loaded]) -> None:
    """`never = ["quarantine"]` also forbids it as what a failure comes to; what a plugin answers is checked when it
    answers."""
    for plugin in plugins:
        for binding in plugin.bindings:
            if binding.on_failure is not None and binding.on_failure.value in settings.never:
                raise PluginError(
                    f'plugin "{plugin.name}", stage "{binding.stage.name}": on_failure = "{binding.on_failure.value}", '
                    f"but never = {list(settings.never)}; choose another on_failure, or change never"
                )


def nonce() -> str:
    """Entropy for SCRAM."""
    return b64encode(os.urandom(18)).decode("ascii")


def mechanisms(settings: Settings, around: Surroundings, plugins_decide: bool) -> tuple[str, ...]:
    """What can be offered: SCRAM needs keys of every user, CRAM-MD5 a password in the clear of any, and a plugin that
    is asked may know only passwords."""
    users = None if plugins_decide else around.users
    left_out = set()
    if not getattr(users, "can_scram", False):
        left_out.add("SCRAM-SHA-256")
    if not settings.users.cram_md5:
        left_out.add("CRAM-MD5")
    elif not getattr(users, "can_prove", False):
        left_out.add("CRAM-MD5")
        log.warning("CRAM-MD5 isn't offered: %s", NOBODY_IN_THE_CLEAR)
    return tuple(one for one in MECHANISMS if one not in left_out)


def counting_failures(settings: Settings, around: Surroundings) -> FailedLogins | None:
    """What counts failed logins, one for all listeners of a generation; None where nobody wants it."""
    most = settings.limits.auth_failures
    if not most or around.facts is None:
        return None
    return FailedLogins(
        around.facts,
        around.clock.monotonic,
        most=most,
        within_s=settings.limits.auth_failures_within,
        longest_s=settings.limits.auth_failures_wait,
        exempt=settings.limits.auth_failures_exempt,
        unix=lambda: around.clock.unix()[0],
    )
