"""Tells one session's story from its record of decisions: what happened, who was asked, who decided.

The same words serve `explain` (from the trace) and `try` (from a list). Everything that came from outside is made safe
for a terminal here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from gatepost.hooks.stages import AFTERWARDS, OUTBOUND
from gatepost.model.written import printable

Entry = tuple[int, str, str, Mapping[str, Any]]
"""(Unix time in ms, token, kind, facts), as `store.trace` keeps it."""

_NEXT_SERVER = "the next server"  # who decides where mail is handed over, as reception records it
_PICKED_UP = 20  # lines about one POP3 session
_BORING = {"stage", "plugin", "plugins", "priority", "ms", "transaction"}
"""The facts of an answer that says nothing."""
_AT = {
    "connect": "at the connection",
    "hello": "at EHLO",
    "sender": "at MAIL",
    "recipient": "at RCPT",
    "data": "at DATA",
    "headers": "at end of data",
    "message": "at end of data",
}


@dataclass(slots=True)
class Transaction:
    """One message, or what was to become one."""

    number: int
    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(recipient, reply) of those refused at RCPT."""
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    heard: str = ""
    """The last reply that decided something."""
    size: int | None = None
    each: Mapping[str, Sequence[str]] = field(default_factory=dict)
    edits: Sequence[str] = ()
    outcome: str = "ABANDONED"
    where: str = ""
    decided_by: str = ""
    handed_over: str = ""
    """Who has it, where another server was given it while the sender waited."""
    about: str = ""
    """The ticket of the message that this one, written here, tells of."""
    began_ms: int = 0
    ended_ms: int = 0


@dataclass(slots=True)
class Explanation:
    """One session: its facts, what was asked before and between messages, and its transactions."""

    token: str
    began_ms: int = 0
    ended_ms: int = 0
    listener: str = ""
    peer: str = ""
    via: str = ""
    """The proxy, or the server in front, that has named the peer."""
    forwarded: str = ""
    """For whom the peer spoke by XFORWARD."""
    helo: str = ""
    tls: str = ""
    user: str = ""
    how: str = ""
    picked_up: list[str] = field(default_factory=list)
    """A POP3 session's own: what was in the maildrop, read and deleted."""
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    refusals: list[Mapping[str, Any]] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    after: list[Entry] = field(default_factory=list)
    """What became of its messages afterwards: deliveries, deferrals, failures."""

    def as_json(self) -> dict[str, Any]:
        """Plain data, every entry included."""
        return {
            "token": self.token,
            "listener": self.listener,
            "peer": self.peer,
            "via": self.via,
            "forwarded": self.forwarded,
            "helo": self.helo,
            "tls": self.tls,
            "user": self.user,
            "entries": [{"ms": ms, "kind": kind, **facts} for ms, _, kind, facts in self.entries],
        }

    def text(self, *, zone: tzinfo | None = None, verbose: bool = False, commands: bool = True) -> str:
        """As `explain` prints it. `zone` for the times, the machine's own if None; `commands` names those that tell
        more, for who has a server that answers them.
        """
        blocks = [_transaction_lines(self, transaction, zone, commands) for transaction in self.transactions]
        if not blocks:
            blocks = [_session_lines(self, zone)]
        lines = [line for block in blocks for line in [*block, ""]][:-1]
        if verbose:
            lines += ["", "all inputs:"]
            lines += [f"  {_clock(ms, zone)}  {kind:10} {_facts(facts)}" for ms, _, kind, facts in self.entries]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text(commands=False)


def explain(entries: Iterable[Entry], number: int | None = None) -> Explanation | None:
    """The story of one session; of its transaction `number` alone if given. None without entries."""
    told: Explanation | None = None
    by_number: dict[int, Transaction] = {}
    for entry in entries:
        ms, token, kind, facts = entry
        if told is None:
            told = Explanation(token, began_ms=ms)
        told.entries.append(entry)
        at = facts.get("transaction")
        if kind in _AFTERWARDS or (kind in _ASKED and facts.get("stage") in _LATER):
            told.after.append(entry)
            if kind in _FINAL and isinstance(at, int) and at in by_number and by_number[at].outcome == "COPIES":
                by_number[at].recipients.append(str(facts.get("recipient", "")))  # its members are named here alone
        elif isinstance(at, int):
            if at not in by_number:
                by_number[at] = Transaction(at, began_ms=ms)
            by_number[at].ended_ms = ms
            _tell_transaction(by_number[at], kind, facts)
        else:
            _tell_session(told, kind, facts)
        told.ended_ms = ms
    if told is not None:
        told.transactions = [one for one in by_number.values() if number is None or one.number == number]
    return told


_AFTERWARDS = {"delivered", "deferred", "bounced", "held", "released", "deleted", "changed", "copied"}
_ASKED = {"asked", "unasked"}
_FINAL = {"delivered", "bounced"}
_LATER = {stage.name for stage in AFTERWARDS | OUTBOUND}  # stages that are asked after the 250


def _tell_session(told: Explanation, kind: str, facts: Mapping[str, Any]) -> None:
    match kind:
        case "session":
            told.peer, told.listener = str(facts.get("peer", "")), str(facts.get("listener", ""))
            told.via, told.user = str(facts.get("via", "")), str(facts.get("user", ""))
            if "turned_away" in facts:
                told.how = f"turned away: {facts['turned_away']}"
        case "client":
            told.peer, told.user = str(facts.get("peer", "")), str(facts.get("user", ""))
        case "forwarded":
            told.forwarded = str(facts.get("addr", "")) or str(facts.get("name", ""))
        case "hello":
            told.helo = str(facts.get("name", ""))
        case "tls" if "version" in facts:
            told.tls = str(facts["version"])
        case "auth" if "failed" not in facts:
            told.user = str(facts.get("user", ""))
        case "refused" | "auth":
            told.refusals.append(facts)
        case "asked" | "unasked":
            told.asked.append(facts)
        case "login":
            told.user = str(facts.get("user", ""))
            drop = f" of {facts['maildrop']}" if "maildrop" in facts else ""
            told.picked_up.append(f"maildrop{drop}: {facts.get('messages')} messages, {facts.get('octets')} octets")
        case "retrieved":
            told.picked_up.append(f"retrieved {facts.get('number')}, {facts.get('uid')}: {facts.get('size')} octets")
        case "removed":
            uids, left = facts.get("uids", ()), facts.get("left", ())
            told.picked_up.append(f"deleted {facts.get('messages')}: {', '.join(map(str, uids))}")
            if left:
                told.picked_up.append(f"couldn't be deleted: {', '.join(map(str, left))}")
        case "end":
            told.how = told.how or str(facts.get("how", ""))
        case _:
            pass


def _tell_transaction(one: Transaction, kind: str, facts: Mapping[str, Any]) -> None:
    reply = str(facts.get("reply", ""))
    match kind:
        case "sender":
            one.sender = str(facts.get("sender", ""))
            if reply:
                one.outcome, one.where, one.heard = "REFUSED", "sender", reply
                one.decided_by = str(facts.get("by", ""))
        case "recipient" if reply:
            one.refused.append((str(facts.get("recipient", "")), reply))
            if not one.recipients:
                one.outcome, one.where, one.heard = "REFUSED", "recipient", reply
                one.decided_by = str(facts.get("by", ""))
        case "recipient":
            one.recipients.append(str(facts.get("recipient", "")))
            one.outcome, one.where = "ABANDONED", ""
        case "data":
            one.outcome, one.where, one.heard = "REFUSED", "data", reply
            one.decided_by = str(facts.get("by", ""))
        case "message":
            one.size = facts.get("size")
            one.heard, one.where = reply, "message"
            one.each = facts.get("each", {})
            one.edits = facts.get("edits", ())
            one.decided_by = str(facts.get("by", ""))
            one.handed_over = str(facts.get("handed_over", ""))
            one.about = str(facts.get("about", ""))
            one.outcome = "REFUSED" if reply and reply[0] in "45" else _kept(one)
            if one.about:
                one.outcome = "HELD" if facts.get("held") else "COPIES" if facts.get("list") else "REPORT"
                one.where = ""
        case "asked" | "unasked":
            one.asked.append(facts)
        case _:
            pass


def _kept(one: Transaction) -> str:
    fates = {decision[0] for decision in one.each.values()}
    if len(one.each) < len(one.recipients) or not fates:
        return "ACCEPTED"
    for fate in ("held", "taken", "discarded"):
        if fate in fates:
            return fate.upper()
    return "ACCEPTED"


def _transaction_lines(told: Explanation, one: Transaction, zone: tzinfo | None, commands: bool) -> list[str]:
    at = f" {_AT[one.where]}" if one.where in _AT else ""
    took = (one.ended_ms - one.began_ms) / 1000
    head = f"{one.outcome}{at}, {_when(one.began_ms, zone)}, after {took:.1f} s"
    to = " ".join(f"<{recipient}>" for recipient in one.recipients[:5]) or "nobody"
    if len(one.recipients) > 5:
        to += f" and {len(one.recipients) - 5} more"
    size = "" if one.size is None else f"     {_octets(one.size)}"
    lines = [
        f"{head:<72} session {told.token}, listener {told.listener}",
        f"  from   <{one.sender}>  {_peer(told)}     to   {to}{size}",
    ]
    if one.heard:
        lines.append(f"  heard  {one.heard}")
    if one.about:
        lines.append(f"  about  {one.about}" + (f"    gatepost explain {one.about}" if commands else ""))
    lines += [f"  refused <{recipient}>  {reply}" for recipient, reply in one.refused if reply != one.heard]
    lines += _asked_lines([*told.asked, *one.asked], one)
    for recipient, decision in one.each.items():
        lines.append(f"  {decision[0]:10} <{recipient}>  by {decision[1]}{': ' + decision[2] if decision[2] else ''}")
    if one.handed_over:
        lines.append(f"  handed over to {one.handed_over}, whose answer is the one above")
    elif one.decided_by.startswith(_NEXT_SERVER):
        lines.append(f"  refused by {one.decided_by}, whose answer is the one above")
    first = told.transactions[0].number  # what was asked about a session with a next server is told with it
    for ms, _, kind, facts in told.after:
        if facts.get("transaction", first) != one.number or kind == "copied":
            pass
        elif kind in _ASKED or kind == "changed":
            lines += _later_lines(ms, kind, facts, zone)
        else:
            said, host = " ".join(str(facts.get("reply", "")).splitlines()), str(facts.get("host", ""))
            at = "" if host and host in said else host or ("" if said else "here")
            hearer = str(facts.get("told", ""))
            hearer = f"told: {hearer}" if hearer.startswith("nobody") else ""
            words = [f"<{facts.get('recipient', '')}>", _clock(ms, zone), at, said, hearer]
            lines.append(f"  {kind:10} {'  '.join(word for word in words if word)}")
    lines += _copied_lines(told, one, first, commands)
    lines.append(_last_line(told, one, commands))
    return [printable(line) for line in lines]


def _copied_lines(told: Explanation, one: Transaction, first: int, commands: bool) -> list[str]:
    """Which lists it has become copies by, for how many, and as what."""
    counts: dict[tuple[str, str], int] = {}
    for _, _, kind, facts in told.after:
        if kind == "copied" and facts.get("transaction", first) == one.number:
            key = (str(facts.get("list", "")), str(facts.get("as", "")))
            counts[key] = counts.get(key, 0) + int(facts.get("recipients", 0))
    return [
        f"  copied     list {name}  for {count:,}  as {ticket}" + (f"    gatepost explain {ticket}" if commands else "")
        for (name, ticket), count in counts.items()
    ]


def _later_lines(ms: int, kind: str, facts: Mapping[str, Any], zone: tzinfo | None) -> list[str]:
    """What a plugin said after the 250, if it said anything, or what became of whom by it."""
    stage = str(facts.get("stage", ""))
    if kind == "changed":
        each = facts.get("each", {})
        return [f"  {fate:10} <{who}>  {_clock(ms, zone)}  at {stage}, by {by}" for who, (fate, by) in each.items()]
    word, why = _said(facts)
    if kind == "unasked" or (word == "proceed" and not any(key in facts for key in ("notes", "edits", "why"))):
        return []
    host = f"  at {facts['host']}" if facts.get("host") else ""
    return [f"  {stage:10} {facts.get('plugin', '')}  {_clock(ms, zone)}{host}  {word}  {why}".rstrip()]


def _last_line(told: Explanation, one: Transaction, commands: bool) -> str:
    match one.outcome:
        case "REFUSED" | "ABANDONED":
            end = "Nothing was stored or sent on."
        case "HELD":
            end = "Held for an operator" + (f": gatepost queue show {told.token}-{one.number}" if commands else ".")
        case "DISCARDED":
            end = "Thrown away; the sender heard 250."
        case "TAKEN":
            end = "The plugin has it."
        case _:
            end = f"Its ticket: {told.token}-{one.number}"
    if not commands:
        return f"  {end}"
    same = f"same sender: gatepost trace --from {one.sender}" if one.sender else ""
    return f"  {end}    all inputs: gatepost explain -v {told.token}    {same}".rstrip()


def _session_lines(told: Explanation, zone: tzinfo | None) -> list[str]:
    what = "MAILDROP OPENED" if told.picked_up else "NO MESSAGE"
    head = f"{what}, {_when(told.began_ms, zone)}, ended: {told.how or 'not yet'}"
    lines = [f"{head:<72} session {told.token}, listener {told.listener}", f"  from   {_peer(told)}"]
    picked_up = told.picked_up
    if (more := len(picked_up) - _PICKED_UP) > 0:
        picked_up = [*picked_up[: _PICKED_UP // 2], f"and {more} more", *picked_up[-_PICKED_UP // 2 :]]
    lines += [f"  {line}" for line in picked_up]
    lines += [f"  refused  {_facts(facts)}" for facts in told.refusals[:20]]
    lines += _asked_lines(told.asked, None)
    return [printable(line) for line in lines]


def _asked_lines(asked: Sequence[Mapping[str, Any]], one: Transaction | None) -> list[str]:
    lines: list[str] = []
    stage = ""
    for facts in asked:
        if facts.get("stage") in ("command", "reply") and facts.keys() <= _BORING:
            continue  # asked at every line and reply; worth telling only where something was said
        shown = str(facts.get("stage", "")) if facts.get("stage") != stage else ""
        stage = str(facts.get("stage", ""))
        if "plugins" in facts:
            for plugin in facts["plugins"]:
                lines.append(f"  {shown:10}       {plugin:<12} not asked          the chain had ended")
                shown = ""
            continue
        word, why = _said(facts)
        mark = "   ← decided" if one is not None and _decided(facts, one) else ""
        plugin, took = str(facts.get("plugin", "")), f"{facts.get('ms', 0):g} ms"
        lines.append(
            f"  {shown:10} {facts.get('priority', 0):>5} {plugin:<12} {word:<11} {took:>8}  {why}{mark}".rstrip()
        )
    return lines


def _said(facts: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict's word, and what else is worth a line."""
    verdict = facts.get("verdict") or {"say": "proceed"}
    word = str(verdict.get("say", "proceed"))
    notes: list[str] = []
    if "each" in facts:
        word = "each"
        notes += [f"{recipient}: {one.get('say')}" for recipient, one in facts["each"].items()]
    if reply := verdict.get("reply"):
        notes.append(" ".join(str(part) for part in reply if part))
    for key in ("text", "reason", "scope"):
        if verdict.get(key):
            notes.append(str(verdict[key]))
    if "recipient" in facts:
        notes.append(f"<{facts['recipient']}>")
    if "why" in facts:
        notes.append(str(facts["why"]))
    notes += [f"{key}={value}" for key, value in facts.get("notes", {}).items()]
    notes += list(facts.get("edits", ()))
    if facts.get("shadow"):
        word = f"({word})"
        notes.insert(0, "shadow")
    elif word in ("refuse", "hangup", "discard", "quarantine", "deny", "fail", "end-session"):
        word = word.upper()
    return word, "; ".join(notes)


def _decided(facts: Mapping[str, Any], one: Transaction) -> bool:
    if facts.get("shadow") or facts.get("plugin") != one.decided_by:
        return False
    says = (facts.get("verdict") or {}).get("say", "proceed")
    return says != "proceed" and facts.get("stage") in (one.where, "headers")


def _peer(told: Explanation) -> str:
    name = f"{told.peer} ({told.helo})" if told.helo else told.peer
    tls = f", {told.tls}" if told.tls else ""
    via = f", via {told.via}" if told.via else ""
    forwarded = f", for {told.forwarded}" if told.forwarded else ""
    user = f", as {told.user}" if told.user else ""
    return f"{name}{tls}{user}{via}{forwarded}"


def _facts(facts: Mapping[str, Any]) -> str:
    return "  ".join(f"{key}={value}" for key, value in facts.items())


def _when(ms: int, zone: tzinfo | None) -> str:
    when = datetime.fromtimestamp(ms / 1000).astimezone(zone)
    offset = when.strftime("%z")
    return f"{when:%Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:]}"


def _clock(ms: int, zone: tzinfo | None) -> str:
    when = datetime.fromtimestamp(ms / 1000).astimezone(zone)
    return f"{when:%H:%M:%S}.{ms % 1000:03}"


def _octets(size: int) -> str:
    if size < 1024:
        return f"{size} octets"
    return f"{size / 1024:.1f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"
