"""Which sessions and messages a binding is asked about: rules and conditions, parsed once at load.

A rule is the grammar of Microsoft's event sinks, `verb=pattern` items separated by `;`: **any** item may match. A
`when` table asks for **all** of its conditions. Both are plain values; a rule that could never match at the stage it
is bound to is an error, told at load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from gatepost.hooks.session import OutgoingSession, Session
from gatepost.model import Path, Recipient, glob_matches

_VERBS = {"ehlo": "ehlo", "helo": "ehlo", "mail": "mail", "mail from": "mail", "rcpt": "rcpt", "rcpt to": "rcpt"}
_STAGE_VERBS = {"hello": {"ehlo"}, "sender": {"mail"}, "recipient": {"rcpt"}}
_ENVELOPE_STAGES = {
    *("data", "headers", "message", "submitted", "expanded"),
    *("out-message", "out-recipient", "out-data", "out-command", "out-reply"),
}
_HOST_STAGES = {"out-session", "out-quit"}
"""Where no message is known: of an outgoing session `ehlo` is the next server's name."""


class RuleError(ValueError):
    """A rule or condition that isn't one; the text says how to mend it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One `verb=pattern`. For `ehlo` the pattern is a domain's, else an address's (`name@domain`, either with `*`)."""

    verb: str
    pattern: str

    def fits_name(self, name: str) -> bool:
        return glob_matches(self.pattern, name.lower())

    def fits_path(self, path: Path) -> bool:
        return self.pattern == "*" or path.matches(self.pattern)


@dataclass(frozen=True, slots=True)
class Rule:
    """Alternatives: any item that matches is enough."""

    items: tuple[Item, ...]

    def can_match_at(self, stage: str) -> bool:
        """Whether the rule means anything at a stage."""
        if stage in _ENVELOPE_STAGES:
            return True
        if stage in _HOST_STAGES:
            return any(item.verb == "ehlo" for item in self.items)
        verbs = {item.verb for item in self.items}
        return stage == "command" or bool(verbs & _STAGE_VERBS.get(stage, set()))

    def fits_hello(self, name: str) -> bool:
        return any(item.verb == "ehlo" and item.fits_name(name) for item in self.items)

    def fits_sender(self, sender: Path) -> bool:
        return any(item.verb == "mail" and item.fits_path(sender) for item in self.items)

    def fits_recipient(self, recipient: Recipient) -> bool:
        return any(item.verb == "rcpt" and item.fits_path(recipient.path) for item in self.items)

    def fits_verb(self, verb: str) -> bool:
        """At `command`: whether an item names the verb; its pattern can't be matched before the line is parsed."""
        return any(item.verb == _VERBS.get(verb.lower(), verb.lower()) for item in self.items)

    def among(self, helo: str, sender: Path, recipients: Sequence[Recipient]) -> Sequence[Recipient]:
        """The recipients a binding is asked about once the envelope is known."""
        if self.fits_hello(helo) or self.fits_sender(sender):
            return recipients
        return [recipient for recipient in recipients if self.fits_recipient(recipient)]


def parse_rule(text: str) -> Rule | None:
    """The rule written so; None for an empty one, which always matches. RuleError says what is wrong."""
    items: list[Item] = []
    for written in text.split(";"):
        if not written.strip():
            continue
        verb, equals, pattern = written.partition("=")
        word = " ".join(verb.lower().split())
        known = _VERBS.get(word)
        if known is None and equals:
            raise RuleError(f'a rule has no verb "{verb.strip()}"; there are ehlo, mail from and rcpt to')
        if equals and not pattern.strip():
            raise RuleError(f'"{written.strip()}" has no pattern; write {word}=* for every one')
        items.append(Item(known or word, pattern.strip().lower() or "*"))
    return Rule(tuple(items)) if items else None


@dataclass(frozen=True, slots=True)
class When:
    """Conditions on the session; all that are given must hold."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    listeners: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    helo: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    authenticated: bool | None = None
    tls: bool | None = None
    size_from: int | None = None
    size_below: int | None = None

    def holds(self, session: Session, size: int | None) -> bool:
        """Whether a session, and a message of `size` octets where there is one, meets every condition."""
        return (
            (not self.networks or any(session.peer.address in network for network in self.networks))
            and (not self.listeners or session.listener in self.listeners)
            and (self.authenticated is None or (session.user is not None) == self.authenticated)
            and (self.tls is None or (session.tls is not None) == self.tls)
            and (not self.users or any(glob_matches(user, (session.user or "").lower()) for user in self.users))
            and (not self.helo or any(glob_matches(name, session.helo.lower()) for name in self.helo))
            and (not self.hosts or any(glob_matches(name, _next_host(session)) for name in self.hosts))
            and (self.size_from is None or (size is not None and size >= self.size_from))
            and (self.size_below is None or size is None or size < self.size_below)
        )


def _next_host(session: Session) -> str:
    """The next server's name, lower-case; "" in a session that sends to us."""
    return session.host.lower() if isinstance(session, OutgoingSession) else ""


_LONGEST_SIZE = 18  # digits
_WHEN_KEYS = ("network", "listener", "authenticated", "tls", "user", "helo", "host", "size")


def parse_when(table: Mapping[str, object]) -> When | None:
    """The conditions of a table; None for an empty one. RuleError names the key that is wrong.

    `network` (one or several CIDR blocks), `listener`, `user`, `helo` and `host` (names; `*` allowed but in the first;
    `host` is the next server's, so that it holds only on the way out), `authenticated` and `tls` (true or false),
    `size` (octets: ">=1048576" or "<1048576").
    """
    values: dict[str, object] = {}
    for key, value in table.items():
        match key:
            case "network":
                values["networks"] = tuple(_network(text) for text in _texts(key, value))
            case "listener":
                values["listeners"] = tuple(_texts(key, value))
            case "user":
                values["users"] = tuple(text.lower() for text in _texts(key, value))
            case "helo":
                values["helo"] = tuple(text.lower() for text in _texts(key, value))
            case "host":
                values["hosts"] = tuple(text.lower() for text in _texts(key, value))
            case "authenticated" | "tls":
                if not isinstance(value, bool):
                    raise RuleError(f"when.{key} is true or false, not {value!r}")
                values[key] = value
            case "size":
                values.update(_size(value))
            case _:
                raise RuleError(f'there is no condition "{key}"; there are {", ".join(_WHEN_KEYS)}')
    return When(**values) if values else None  # type: ignore[arg-type]  # each key was given its own type above


def _texts(key: str, value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Iterable):
        texts = list(value)
        if all(isinstance(text, str) for text in texts):
            return texts
    raise RuleError(f"when.{key} is a text or a list of texts, not {value!r}")


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise RuleError(f'when.network: "{text}" isn\'t an address or a network such as 192.0.2.0/24') from error


def _size(value: object) -> dict[str, int]:
    text = str(value).replace(" ", "")
    for sign, key in ((">=", "size_from"), ("<", "size_below")):
        digits = text.removeprefix(sign)
        if text.startswith(sign) and digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_SIZE:
            return {key: int(digits)}
    raise RuleError(f'when.size is ">=N" or "<N" in octets, not {value!r}')
