"""Writes docs/stages.md and docs/rfc.md from the source: `python docs/generate.py`; with `--check` it only compares.

stages.md is drawn from the classes that plugins meet (docstrings, fields, types) and from the table of effects; rfc.md
from the citations `rfcNNNN#section` in the source. Nothing is kept here but the RFCs' titles and the words between.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path

from gatepost.hooks.bindings import DEFAULT_PRIORITY, HOUSE_PRIORITY, MAX_PRIORITY
from gatepost.hooks.effects import EFFECTS, allowed_failures, legal_scopes
from gatepost.hooks.notices import NOTICES
from gatepost.hooks.stages import (
    AFTERWARDS,
    BY_OTHER_NAMES,
    OUTBOUND,
    POP,
    STAGES,
    Event,
    OutCommand,
    OutQuit,
    OutReply,
    OutSession,
)
from gatepost.hooks.verdicts import VERDICTS, Fail, Refuse, Scope

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "gatepost"

TITLES = {
    1035: "Domain names: implementation and specification",
    1428: "From just-send-8 to 8-bit SMTP and MIME",
    1847: "multipart/signed and multipart/encrypted",
    1870: "SMTP: message size declaration",
    1912: "Common DNS operational and configuration errors",
    1918: "Address allocation for private internets",
    1928: "SOCKS protocol version 5",
    1929: "SOCKS 5: user name and password",
    1939: "Post Office Protocol, version 3",
    2033: "Local Mail Transfer Protocol",
    2034: "SMTP: returning enhanced error codes",
    2045: "MIME, part one: format of message bodies",
    2046: "MIME, part two: media types",
    2047: "MIME, part three: non-ASCII text in headers",
    2104: "HMAC: keyed hashing for message authentication",
    2195: "IMAP/POP AUTHorize: CRAM-MD5",
    2231: "MIME parameter values and encoded words: character sets, languages, continuations",
    2308: "Negative caching of DNS queries",
    2369: "List-Help, List-Unsubscribe and other header fields of mailing lists",
    2449: "POP3: extension mechanism",
    2595: "POP3: TLS (STLS)",
    2919: "List-Id",
    2920: "SMTP: command pipelining",
    3030: "SMTP: large and binary messages (CHUNKING)",
    3206: "POP3: SYS and AUTH response codes",
    3207: "SMTP over TLS (STARTTLS)",
    3461: "Delivery status notifications: SMTP extension",
    3463: "Enhanced mail system status codes",
    3464: "Delivery status notifications: format",
    3834: "Automatic responses to electronic mail",
    3848: "ESMTP and LMTP transmission types",
    4035: "DNSSEC: protocol modifications",
    4155: "The mbox format (application/mbox)",
    4193: "Unique local IPv6 unicast addresses",
    4616: "SASL PLAIN",
    4647: "Matching of language tags",
    4954: "SMTP: authentication",
    5034: "POP3: authentication",
    5246: "TLS 1.2",
    5280: "X.509 certificates",
    5321: "Simple Mail Transfer Protocol",
    5322: "Internet message format",
    5802: "SASL SCRAM",
    5890: "Internationalized domain names: definitions",
    6052: "IPv6 addressing of IPv4/IPv6 translators",
    6068: "The mailto URI scheme",
    6125: "Service identity within TLS",
    6152: "SMTP: 8-bit MIME transport",
    6376: "DomainKeys Identified Mail (DKIM) signatures",
    6377: "DKIM and mailing lists",
    6409: "Message submission for mail",
    6522: "multipart/report",
    6531: "SMTP: internationalised mail (SMTPUTF8)",
    6532: "Internationalised mail headers",
    6533: "Internationalised delivery status notifications",
    6698: "DANE: TLSA records",
    6840: "DNSSEC: clarifications",
    6856: "POP3: UTF-8 and languages",
    7208: "Sender Policy Framework (SPF)",
    7218: "DANE: names of TLSA fields",
    7435: "Opportunistic security",
    7489: "DMARC",
    7505: "Null MX",
    7617: "HTTP: Basic authentication",
    7628: "SASL OAUTHBEARER",
    7671: "DANE: operation",
    7672: "DANE for SMTP",
    7677: "SCRAM-SHA-256",
    8058: "One-click unsubscribing",
    8265: "Preparing usernames and passwords",
    8301: "DKIM: algorithms and key lengths",
    8305: "Happy Eyeballs",
    8446: "TLS 1.3",
    8460: "SMTP: TLS reporting",
    8461: "MTA Strict Transport Security",
    8463: "DKIM: Ed25519",
    8601: "Authentication-Results",
    8689: "SMTP: required TLS",
    9057: "Email Author header field",
    9110: "HTTP semantics",
    9422: "SMTP: limits",
}
_CITED = re.compile(r"\brfc(\d{3,5})#([0-9A-Za-z.]*[0-9A-Za-z])|\bRFC (\d{3,5})(?: ?§ ?([0-9.]*[0-9]))?")
_NOT_EDITED = "<!-- Written by `python docs/generate.py` from the source; change that instead. -->"


# ── what the source says of itself ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Word:
    """One field, property or method of a class, as its author wrote it."""

    name: str
    type: str
    text: str


@cache
def _classes(file: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def docstring(file: str, name: str) -> str:
    """A class's docstring, as one paragraph."""
    return _one_line(ast.get_docstring(_classes(file)[name]) or "")


def words(file: str, name: str, *, leave_out: Iterable[str] = ()) -> Iterator[Word]:
    """The public fields and methods of one class, in the order they are written."""
    body = _classes(file)[name].body
    for at, node in enumerate(body):
        match node:
            case ast.AnnAssign(target=ast.Name(id=field), annotation=annotation):
                written = ast.unparse(annotation)
                if field.startswith("_") or field in leave_out or written.startswith("ClassVar"):
                    continue
                yield Word(field, written, _text_after(body, at))
            case ast.FunctionDef() | ast.AsyncFunctionDef() if not node.name.startswith("_"):
                if node.name in leave_out:
                    continue
                yield _method(node)
            case ast.FunctionDef(name=special) | ast.AsyncFunctionDef(name=special) if special in _SPECIAL:
                yield Word(_SPECIAL[special], _returned(node), _one_line(ast.get_docstring(node) or ""))
            case _:
                pass


_SPECIAL = {
    "__getitem__": "[name]",
    "__setitem__": "[name] = value",
    "__delitem__": "del [name]",
    "__iter__": "for … in",
    "__aiter__": "async for … in",
    "__bool__": "bool()",
}


def _method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Word:
    text = _one_line(ast.get_docstring(node) or "")
    decorators = {ast.unparse(one) for one in node.decorator_list}
    if "property" in decorators:
        return Word(node.name, _returned(node), text)
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix("cls").lstrip(", ")
    awaited = "await " if isinstance(node, ast.AsyncFunctionDef) else ""
    return Word(f"{awaited}{node.name}({arguments})", _returned(node), text)


def _returned(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    written = "" if node.returns is None else ast.unparse(node.returns)
    return "" if written == "None" else written


def _text_after(body: list[ast.stmt], at: int) -> str:
    match body[at + 1 : at + 2]:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return _one_line(cleandoc(text))
        case _:
            return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    for ours, known in _ALIASES.items():
        text = text.replace(ours, known)
    return f"`{_cell(text)}`" if text else ""


_ALIASES = {"Rcpt": "Recipient", "MessageView": "Message"}


def _words_table(found: Iterable[Word]) -> Iterator[str]:
    yield "| | type | what it is |\n|---|---|---|"
    for word in found:
        yield f"| {_code(word.name)} | {_code(word.type)} | {_cell(word.text)} |"
    yield ""


# ── stages.md ──────────────────────────────────────────────────────────────────────────────────────────────────────

_STAGES_OPENING = f"""\
# Stages, verdicts, notices

{_NOT_EDITED}

A *stage* is a moment plugins are asked about; a *verdict* is what they decide; a *notice* is something they are told.
Bindings are asked by priority: 0 first, {MAX_PRIORITY} last, {DEFAULT_PRIORITY} if nothing is said. The house itself
(routes, relaying, who exists) stands at {HOUSE_PRIORITY}. How to write one: [plugin-authors.md](plugin-authors.md).
"""

_EVENTS = ("hooks/stages.py", "hooks/outbound.py", "hooks/pop.py", "hooks/events.py")
_COMMON = ("Event", "Transaction", "Outgoing", "Conversing")  # what has a table of its own


def stages_page() -> str:
    """docs/stages.md, whole."""
    return "\n".join(
        [_STAGES_OPENING, *_matrix(), *_origins(), *_stages(), *_verdicts(), *_notices(), *_objects(), *_other_names()]
    )


def _kinds() -> list[type]:
    """Every verdict, in the order they are written."""
    order = list(_classes("hooks/verdicts.py"))
    return sorted(VERDICTS, key=lambda kind: order.index(kind.__name__))


def _matrix() -> Iterator[str]:
    yield "## Which verdict exists where\n"
    yield "`●` exists; anything else is a malformed answer and goes the way of the binding's `on_failure`.\n"
    within = {name: stage for name, stage in STAGES.items() if stage not in OUTBOUND | POP}
    yield from _matrix_of(within)
    yield "On the way out, and in POP3 sessions:\n"
    yield from _matrix_of({name: stage for name, stage in STAGES.items() if stage in OUTBOUND | POP})


def _matrix_of(stages: Mapping[str, type[Event]]) -> Iterator[str]:
    yield "| verdict | " + " | ".join(f"[{name}](#{name})" for name in stages) + " |"
    yield "|---|" + ":-:|" * len(stages)
    for kind in _kinds():
        marks = ["●" if (stage, kind) in EFFECTS else "" for stage in stages.values()]
        if any(marks):
            yield f"| `{kind.__name__}` | " + " | ".join(marks) + " |"
    yield ""


_ARRIVING = frozenset(STAGES.values()) - AFTERWARDS - OUTBOUND - POP
_ASKING = frozenset({OutSession, OutCommand, OutReply, OutQuit})
ORIGINS: Mapping[str, frozenset[type[Event]]] = {
    "a client, by SMTP, submission or LMTP": _ARRIVING | AFTERWARDS | OUTBOUND,
    "a client, handed over to the next server before the 250": _ARRIVING | OUTBOUND,
    "`Server.send`, `gatepost send --queue`, `sendmail`": AFTERWARDS | OUTBOUND,
    "`Server.send` with `now` or `via`": OUTBOUND,
    "reports of our own: failures, delays, successes": OUTBOUND,
    "a question to the next server whether a recipient exists": _ASKING,
}
"""Which stages mail passes, by where it comes from; a test sends it and looks."""


def _origins() -> Iterator[str]:
    yield "## Where mail comes from, and which stages it passes\n"
    yield (
        "The stages of the way out are those of a session with a next server: mail for a Maildir, and what is thrown\n"
        "away, passes none of them. `gatepost send --now` has no server and asks nobody. A message that was held\n"
        "passes what it hasn't passed yet when it is released; where a plugin had refused it, nobody is asked again.\n"
    )
    groups = [[stage for stage in STAGES.values() if stage in group] for group in (_ARRIVING, AFTERWARDS, OUTBOUND)]
    asking = [stage for stage in groups[2] if stage in _ASKING]
    others = [stage for stage in groups[2] if stage not in _ASKING]
    columns = [groups[0], groups[1], asking, others]
    yield "| mail from | " + " | ".join(", ".join(f"`{stage.name}`" for stage in one) for one in columns) + " |"
    yield "|---|" + ":-:|" * len(columns)
    for origin, passed in ORIGINS.items():
        marks = ("●" if passed.issuperset(one) else "" for one in columns)
        yield f"| {origin} | " + " | ".join(marks) + " |"
    yield ""


def _stages() -> Iterator[str]:
    yield "## The stages, in the order of a session\n"
    for name, stage in STAGES.items():
        yield f"### {name}\n"
        yield f"{docstring(_home(stage), stage.__name__)}\n"
        yield f"`event` is a `stages.{stage.__name__}`; it has {_inherited(stage)}.\n"
        own = [*_own_words(stage)]
        if own:
            yield from _words_table(own)
        other = "next server" if stage in OUTBOUND else "client"
        yield f"| verdict | the {other} hears | the session | the mail |\n|---|---|---|---|"
        for kind in _kinds():
            if effect := EFFECTS.get((stage, kind)):
                heard = effect.heard
                mail = effect.mail
                if kind is Refuse and stage not in POP:
                    heard += f"; for a text alone {effect.code} {effect.status}"
                elif kind is Fail:
                    mail += f"; for a text alone {effect.code} {effect.status}"
                row = (f"`{kind.__name__}`", heard, effect.after.value, mail)
                yield "| " + " | ".join(_cell(one) for one in row) + " |"
        yield ""
        failures = ", ".join(f"`{one}`" for one in allowed_failures(stage))
        scopes = [f"`{scope.value}`" for scope in Scope if scope in legal_scopes(stage)]
        accepting = f" `accept` may speak for: {', '.join(scopes)}." if scopes else ""
        yield f"`on_failure` may be {failures}; the first is the default.{accepting}\n"


def _own_words(stage: type[Event]) -> Iterator[Word]:
    for kind in reversed(stage.__mro__):
        if kind is not object and kind.__name__ not in _COMMON:
            yield from words(_home(kind), kind.__name__, leave_out=("subjects",))


def _home(kind: type) -> str:
    """The file in which an event's class is written."""
    return next(file for file in _EVENTS if kind.__name__ in _classes(file))


def _inherited(stage: type[Event]) -> str:
    everywhere = "[what every stage has](#every-event)"
    ancestors = {kind.__name__ for kind in stage.__mro__}
    if "Conversing" in ancestors:
        return f"{everywhere}, [what every outgoing stage has](#every-outgoing-event) and [what every command and reply\
 has](#every-outgoing-command-and-reply)"
    if "Outgoing" in ancestors and "Transaction" in ancestors:
        return f"{everywhere}, [what every outgoing stage has](#every-outgoing-event) and [what every stage within a\
 transaction has](#every-event-within-a-transaction)"
    if "Outgoing" in ancestors:
        return f"{everywhere} and [what every outgoing stage has](#every-outgoing-event)"
    if "Transaction" in ancestors:
        return f"{everywhere} and [what every stage within a transaction has](#every-event-within-a-transaction)"
    return everywhere


def _verdicts() -> Iterator[str]:
    yield "## The verdicts\n"
    yield "Values of `gatepost.hooks.verdicts`; authors say most of them by a function of `gatepost`.\n"
    yield "| verdict | said by | what it means |\n|---|---|---|"
    for kind in _kinds():
        said = _SAID_BY.get(kind.__name__, f"{kind.__name__}(…)")
        yield f"| `{kind.__name__}` | {_code(said)} | {_cell(docstring('hooks/verdicts.py', kind.__name__))} |"
    yield ""


_SAID_BY = {
    "Proceed": "None",
    "Accept": 'accept("transaction")',
    "Refuse": 'refuse("text"), refuse(550, "5.7.1", "text"), tempfail("text")',
    "Quarantine": 'quarantine("reason")',
    "Discard": 'discard("reason")',
    "Take": 'take("reason")',
    "Hangup": 'hangup("text")',
    "Send": 'send_line("MAIL FROM:<a@b.example>")',
    "Skip": "skip()",
    "Blob": 'send_octets(b"NOOP\\r\\n")',
    "Repeat": 'repeat(), repeat("NOOP")',
    "Jump": 'jump("data")',
    "Fail": 'fail("text"), fail(451, "4.7.1", "text")',
    "EndSession": "end_session()",
}


def _notices() -> Iterator[str]:
    yield "## The notices\n"
    yield 'Bound like stages, `@on("queued")`; nothing that is answered changes anything, and nobody waits.\n'
    for name, notice in NOTICES.items():
        yield f"### {name}\n"
        yield f"{docstring('hooks/notices.py', notice.__name__)}\n"
        yield from _words_table([*words("hooks/notices.py", notice.__name__), *words("hooks/notices.py", "Notice")])


def _objects() -> Iterator[str]:
    yield "## The objects\n"
    for title, file, name, leave_out in _OBJECTS:
        yield f"### {title}\n"
        if text := docstring(file, name):
            yield f"{text}\n"
        yield from _words_table(words(file, name, leave_out=leave_out))


_OBJECTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("Every event", "hooks/events.py", "Event", ("turn", "transaction")),
    ("Every event within a transaction", "hooks/events.py", "Transaction", ()),
    ("Every outgoing event", "hooks/outbound.py", "Outgoing", ()),
    ("Every outgoing command and reply", "hooks/outbound.py", "Conversing", ()),
    ("Recipients", "hooks/events.py", "Recipients", ()),
    ("Call", "hooks/outbound.py", "Call", ()),
    ("Session", "hooks/session.py", "Session", ("patience", "standing", "holder")),
    ("Server", "hooks/session.py", "ServerView", ("clock",)),
    ("Facts", "hooks/ports.py", "Facts", ()),
    ("Path", "model/path.py", "Path", ()),
    ("Recipient", "model/envelope.py", "Recipient", ()),
    ("Message", "model/message.py", "Message", ()),
    ("Header fields", "model/message.py", "Headers", ()),
    ("Part", "model/message.py", "Part", ()),
)


def _other_names() -> Iterator[str]:
    yield "## What other servers call them\n"
    yield "Said in settings or code, these names get an error that tells ours.\n"
    ours: dict[str, list[str]] = defaultdict(list)
    for theirs, name in BY_OTHER_NAMES.items():
        ours[name].append(theirs)
    yield "| here | elsewhere |\n|---|---|"
    for name in STAGES:
        if name in ours:
            yield f"| `{name}` | {', '.join(f'`{one}`' for one in ours[name])} |"
    yield ""


# ── rfc.md ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_RFC_OPENING = f"""\
# What the standards say, and where it is obeyed

{_NOT_EDITED}

Each line of the source that obeys a standard cites it: `# rfc5321#4.5.3.1.4`. This is the index of those citations;
files are below `src/gatepost/`. A dash stands for the whole document.
"""


def rfc_page() -> str:
    """docs/rfc.md, whole. KeyError for an RFC without a title in TITLES."""
    lines = [_RFC_OPENING]
    for number, sections in sorted(_citations().items()):
        if number not in TITLES:
            raise KeyError(f"RFC {number} is cited, but has no title; add one to TITLES in docs/generate.py")
        lines += [f"## RFC {number}: {TITLES[number]}\n", "| section | obeyed in |\n|---|---|"]
        for section, files in sorted(sections.items(), key=lambda one: _by_number(one[0])):
            where = ", ".join(f"`{file}`" for file in sorted(files))
            lines.append(f"| {_link(number, section)} | {where} |")
        lines.append("")
    return "\n".join(lines)


def _citations() -> dict[int, dict[str, set[str]]]:
    found: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file in sorted(SOURCE.rglob("*.py")):
        for match in _CITED.finditer(file.read_text(encoding="utf-8")):
            number, section = match[1] or match[3], match[2] or match[4] or ""
            found[int(number)][section].add(file.relative_to(SOURCE).as_posix())
    return found


def _by_number(section: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in section.split(".")]


def _link(number: int, section: str) -> str:
    page = f"https://www.rfc-editor.org/rfc/rfc{number}"
    return f"[{section}]({page}#section-{section})" if section else f"[—]({page})"


# ── writing and checking ───────────────────────────────────────────────────────────────────────────────────────────

PAGES = {"stages.md": stages_page, "rfc.md": rfc_page}


def stale() -> list[str]:
    """The pages that aren't what the source says now."""
    return [name for name, page in PAGES.items() if not (DOCS / name).is_file() or (DOCS / name).read_text() != page()]


def main() -> int:
    """Write the pages; with --check exit with 1 where one is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is stale")
    if parser.parse_args().check:
        for name in (old := stale()):
            sys.stderr.write(f"docs/{name} is stale: python docs/generate.py\n")
        return 1 if old else 0
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
