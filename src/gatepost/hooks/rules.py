"""Which sessions and messages a binding is asked about: rules and conditions, parsed once at load.

A rule is the grammar of Microsoft's event sinks, `verb=pattern` items separated by `;`: **any** item may match. A
`when` table asks for **all** of its conditions. Both are plain values; a rule that could never match at the stage it
is bound to is an error, told at load.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from gatepost.hooks.patterns import AddressPattern, RuleError, address_pattern, domain_pattern, path_in
from gatepost.hooks.session import OutgoingSession, Session
from gatepost.model import Path, Recipient, glob_matches

_VERBS = {"ehlo": "ehlo", "helo": "helo", "lhlo": "ehlo"} | {
    written: verb for verb, following in (("mail", "from"), ("rcpt", "to")) for written in (verb, f"{verb} {following}")
}
_WRITTEN = {"mail": "mail from", "rcpt": "rcpt to"}
_HELLOS = ("ehlo", "helo")
_STAGE_VERBS = {"hello": _HELLOS, "sender": ("mail",), "recipient": ("rcpt",)}
_ENVELOPE_STAGES = {
    *("data", "headers", "message", "submitted", "expanded"),
    *("out-message", "out-recipient", "out-data", "out-command", "out-reply"),
}
_HOST_STAGES = {"out-session", "out-quit"}
"""Where no message is known: of an outgoing session `ehlo` is the next server's name."""
_VERB = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Item:
    """One `verb=pattern`. For `ehlo` and `helo` the pattern is a domain's, for `mail` and `rcpt` an address's
    (`name@domain`, either with `*`), for other verbs always `*`. RuleError for what isn't one.
    """

    verb: str
    pattern: str = "*"
    _name: str = field(default="", init=False, compare=False, repr=False)
    _address: AddressPattern = field(default=AddressPattern("*"), init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.verb in _WRITTEN:
            object.__setattr__(self, "_address", address_pattern(self.pattern))
        else:
            object.__setattr__(self, "_name", domain_pattern(self.pattern))

    def fits_name(self, name: str) -> bool:
        return glob_matches(self._name, name.lower())

    def fits_path(self, path: Path) -> bool:
        return self._address.fits(path)

    def __str__(self) -> str:
        known = self.verb in _WRITTEN or self.verb in _HELLOS
        return f"{_WRITTEN.get(self.verb, self.verb)}={self.pattern}" if known else self.verb


@dataclass(frozen=True, slots=True)
class Rule:
    """Alternatives: any item that matches is enough. As a text it is what `parse_rule` reads as the same rule."""

    items: tuple[Item, ...]
    ehlo_is_helo: bool = True
    """Whether an item for `ehlo` fits HELO too; then there is none for `helo`."""
    _by_verb: Mapping[str, tuple[Item, ...]] = field(default_factory=dict, init=False, compare=False, repr=False)
    _of_hello: tuple[Item, ...] = field(default=(), init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        verbs = dict.fromkeys(item.verb for item in self.items)
        by_verb = {verb: tuple(item for item in self.items if item.verb == verb) for verb in verbs}
        if self.ehlo_is_helo and "ehlo" in by_verb:
            by_verb["helo"] = by_verb["ehlo"]
        object.__setattr__(self, "_by_verb", by_verb)
        object.__setattr__(self, "_of_hello", tuple(item for item in self.items if item.verb in _HELLOS))

    def can_match_at(self, stage: str) -> bool:
        """Whether the rule means anything at a stage."""
        verbs = {item.verb for item in self.items}
        if stage in _ENVELOPE_STAGES:
            return not verbs.isdisjoint((*_HELLOS, *_WRITTEN))
        if stage in _HOST_STAGES:
            return not verbs.isdisjoint(_HELLOS)
        return stage in ("command", "reply") or not verbs.isdisjoint(_STAGE_VERBS.get(stage, ()))

    def fits_hello(self, name: str) -> bool:
        """Whether the other side's name fits, whichever verb has said it."""
        return any(item.fits_name(name) for item in self._of_hello)

    def fits_sender(self, sender: Path) -> bool:
        return any(item.fits_path(sender) for item in self._by_verb.get("mail", ()))

    def fits_recipient(self, recipient: Recipient) -> bool:
        return any(item.fits_path(recipient.path) for item in self._by_verb.get("rcpt", ()))

    def fits_verb(self, verb: str) -> bool:
        """Whether an item names the verb, whatever its pattern."""
        verb = verb.lower()
        return bool(self._by_verb.get(_VERBS.get(verb, verb)))

    def fits_line(self, line: str) -> bool:
        """At `command` and `reply`: whether an item names the line's verb, and its pattern fits what the line says. An
        address that can't be read fits `*` only.
        """
        words = line.split(None, 1)
        if not words:
            return False
        written = words[0].lower()
        verb = _VERBS.get(written, written)
        items = self._by_verb.get(verb)
        if not items:
            return False
        if any(item.pattern == "*" for item in items):
            return True
        if verb in _HELLOS:
            name = words[1].strip() if len(words) > 1 else ""
            return any(item.fits_name(name) for item in items)
        path = path_in(line)
        return path is not None and any(item.fits_path(path) for item in items)

    def among(self, helo: str, sender: Path, recipients: Sequence[Recipient]) -> Sequence[Recipient]:
        """The recipients a binding is asked about once the envelope is known."""
        if self.fits_hello(helo) or self.fits_sender(sender):
            return recipients
        return [recipient for recipient in recipients if self.fits_recipient(recipient)]

    def __str__(self) -> str:
        return "; ".join(map(str, self.items))


def parse_rule(text: str, *, ehlo_is_helo: bool = True) -> Rule | None:
    """The rule written so; None for an empty one, which always matches. RuleError says what is wrong, and where.

    A bare verb is any line with that verb, also one that SMTP doesn't have. Verbs are without regard to case; blanks
    around the parts don't count. `ehlo_is_helo`: whether `ehlo` and `helo` are one word.
    """
    items: list[Item] = []
    position = 0
    for written in text.split(";"):
        if written.strip():
            items.append(_item(written, position, ehlo_is_helo=ehlo_is_helo))
        position += len(written) + 1
    return Rule(tuple(items), ehlo_is_helo) if items else None


def _item(written: str, position: int, *, ehlo_is_helo: bool) -> Item:
    """One item; `position` is that of its first character in the rule."""
    left, equals, right = written.partition("=")
    begin = position + len(left) - len(left.lstrip())
    word = " ".join(left.lower().split())
    if not word:
        raise RuleError("there is no verb before the =; there are ehlo, mail from and rcpt to", begin)
    verb = _VERBS.get(word, word)
    if verb not in _VERBS.values() and (equals or " " in word):
        known = "there are ehlo, mail from and rcpt to"
        if equals and _VERB.fullmatch(word):
            raise RuleError(f'a rule has no verb "{left.strip()}" with a pattern; {known}', begin)
        raise RuleError(f'a rule has no verb "{left.strip()}"; {known}, and single words such as XVERB', begin)
    if not _VERB.fullmatch(verb):
        raise RuleError(f'"{left.strip()}" can\'t be a verb; there are ehlo, mail from and rcpt to', begin)
    if verb == "helo" and ehlo_is_helo:
        verb = "ehlo"
    pattern = right.strip()
    if not equals:
        return Item(verb)
    if not pattern:
        raise RuleError(f'"{written.strip()}" has no pattern; write {word}=* for every one', position + len(left) + 1)
    at = position + len(left) + 1 + len(right) - len(right.lstrip())
    try:
        return Item(verb, pattern.lower())
    except RuleError as error:
        raise RuleError(str(error), at + max(error.position, 0)) from None


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


__all__ = ["Item", "Rule", "RuleError", "When", "parse_rule", "parse_when"]
