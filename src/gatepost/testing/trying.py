"""`try_plugin`: one message through a plugin, without a server; the same words as `gatepost try`.

The whole reception is real, only its ends are doubles; so what is seen here is what a client would hear.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gatepost
from gatepost.admin.telling import Entry, Explanation, explain
from gatepost.hooks.notices import Bounced, Deferred, Delivered
from gatepost.hooks.records import read_verdict
from gatepost.hooks.stages import AFTERWARDS, OUTBOUND, POP
from gatepost.hooks.verdicts import Verdict
from gatepost.model import Tls
from gatepost.plugins.loaded import Exchange, Loaded, Wish
from gatepost.plugins.python import load
from gatepost.testing.rig import Rig

_LATER = (Delivered, Deferred, Bounced)
_SERVER = "they are asked where mail leaves: gatepost run --plugin FILE, then gatepost explain TICKET"
_HOUSE = str(Path(gatepost.__file__).parent)
MESSAGE = (
    b"From: Dave <dave@bobo.example>\r\nTo: Ann <ann@example.org>\r\nSubject: hello\r\n"
    b"Date: Mon, 02 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@bobo.example>\r\n\r\nHello Ann.\r\n"
)


@dataclass(slots=True)
class Story:
    """What became of one message. `str()` of it is what `gatepost try` prints."""

    token: str
    replies: list[tuple[str, str]] = field(default_factory=list)
    """(what was said, what was heard), in order."""
    content: bytes | None = None
    """The message as it would have been stored; None if nothing would have been."""
    recipients: list[str] = field(default_factory=list)
    """Who would get it."""
    sender: str = ""
    held: str | None = None
    """Why it would have been held."""
    notes: dict[str, Any] = field(default_factory=dict)
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    """Every answer: stage, plugin, verdict, ms, edits, notes."""
    exchanges: list[Exchange] = field(default_factory=list)
    """What a plugin that isn't Python was passed, and what it returned."""
    errors: list[BaseException] = field(default_factory=list)
    """What hooks raised."""
    untried: list[str] = field(default_factory=list)
    """Stages and notices that the plugin is bound to, and that only a server with a queue comes to."""
    explanation: Explanation | None = None

    @property
    def reply(self) -> str:
        """The last reply that decided something: the first refusal, or the one to end-of-data."""
        refusals = [heard for said, heard in self.replies if heard[:1] in "45" and said != "QUIT"]
        return refusals[0] if refusals else self.replies[-1][1] if self.replies else ""

    def refused(self, code: int | None = None, recipient: str | None = None) -> bool:
        """Whether anything (or this recipient) was refused, with that code if one is given."""
        return any(
            heard[:1] in "45"
            and (code is None or heard.startswith(str(code)))
            and (recipient is None or f"<{recipient}>" in said or (said == "." and recipient not in self.recipients))
            for said, heard in self.replies
        )

    def accepted(self, recipient: str | None = None) -> bool:
        """Whether the message (for this recipient) would have been stored or taken."""
        ended = [heard for said, heard in self.replies if said == "."]
        heard_250 = bool(ended) and ended[-1].startswith("250")
        return heard_250 and (recipient is None or recipient in self.recipients)

    def verdict(self, stage: str) -> Verdict | None:
        """What the plugin said at that stage, the last time it was asked; None if it wasn't."""
        for facts in reversed(self.asked):
            if facts["stage"] == stage and facts["plugin"] != "house":
                return read_verdict(facts.get("verdict") or {"say": "proceed"})
        return None

    def __str__(self) -> str:
        lines = [f"{said:<40} {_briefly(heard)}" for said, heard in self.replies]
        if self.explanation is not None:
            lines += ["", str(self.explanation)]
        for one in self.exchanges:
            lines += ["", f"{one.plugin} at {one.stage} was passed:"]
            lines += [f"  {line}" for line in one.passed.splitlines()]
            lines += [f"and returned: {one.returned}"]
        for error in self.errors:
            lines += ["", *_traceback(error)]
        if self.content is not None:
            to = ", ".join(self.recipients)
            lines += ["", f"the message for {to}, {len(self.content)} octets:", ""]
            lines += ["  " + line for line in self.content.decode("utf-8", "replace").splitlines()[:60]]
        if self.untried:
            lines += ["", f"not tried, since no server and no queue is here: {', '.join(self.untried)}", _SERVER]
        return "\n".join(lines)


async def try_plugin(
    plugin: object,
    /,
    *,
    ip: str = "192.0.2.1",
    local: str = "192.0.2.25",
    helo: str = "client.example",
    sender: str = "dave@bobo.example",
    to: str | Sequence[str] = "ann@example.org",
    message: bytes | str | Path = MESSAGE,
    user: str | None = None,
    tls: bool = False,
    dns: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    failing: bool = False,
    wishes: Sequence[Wish] = (),
) -> Story:
    """Send one message past a plugin (a function, class, module, file or import path) and tell the story.

    `failing` makes every hook fail instead of answering, to see what `on_failure` comes to. `dns` answers look-ups:
    {"name": {"A": [...], "TXT": [...]}}. PluginError if the plugin can't be loaded.
    """
    loaded = plugin if isinstance(plugin, Loaded) else load(plugin, properties=properties, wishes=wishes)
    if failing:
        _make_fail(loaded)
    async with Rig([loaded], dns=dns) as rig:
        client = rig.connect(ip, local=local)
        if tls:
            client.line.tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")
        story = Story("")
        loaded.on_exchange = story.exchanges.append
        await _converse(rig, client, story, helo, sender, [to] if isinstance(to, str) else to, _octets(message), user)
        client.line.end_of_file()
        while await client.reply():
            pass
        await rig.settled()
        story.token = rig.records.entries[0][0]
        story.untried = _untried(loaded)
        story.errors = [error for _, _, error in rig.records.errors]
        story.asked = list(rig.records.kinds("asked"))
        for facts in story.asked:
            story.notes.update(facts.get("notes", {}))
        now = int(time.time() * 1000)
        entries: list[Entry] = [(now, token, kind, facts) for token, kind, facts in rig.records.entries]
        story.explanation = explain(entries)
        for entry in await rig.spool.entries():
            story.content = entry.content.read()
            story.sender = str(entry.envelope.sender)
            story.recipients += [str(recipient) for recipient in entry.envelope.recipients]
            story.held = entry.held
        return story


async def _converse(
    rig: Rig, client: Any, story: Story, helo: str, sender: str, to: Sequence[str], message: bytes, user: str | None
) -> None:
    async def say(line: str) -> bool:
        heard = await client.command(line)
        story.replies.append((line, heard))
        return bool(heard) and heard[:1] in "23"

    banner = await client.reply()
    story.replies.append(("(connect)", banner))
    if not banner.startswith("220") or not await say(f"EHLO {helo}"):
        return
    if user is not None:
        rig.last_session.user = user
    utf8 = "" if all(address.isascii() for address in (sender, *to)) else " SMTPUTF8"
    if not await say(f"MAIL FROM:<{sender}>{utf8}"):
        return
    accepted = [await say(f"RCPT TO:<{recipient}>") for recipient in to]
    if not any(accepted) or not await say("DATA"):
        return
    story.replies.append((".", await client.content(message)))
    await say("QUIT")


def _untried(loaded: Loaded) -> list[str]:
    """What comes after the 250, or in a POP3 session, and doesn't come here."""
    later = AFTERWARDS | OUTBOUND | POP
    stages = [binding.stage.name for binding in loaded.bindings if binding.stage in later]
    return list(dict.fromkeys([*stages, *(notice.name for notice, _ in loaded.told if notice in _LATER)]))


def _briefly(heard: str) -> str:
    """A reply on one line."""
    first, *further = heard.split("\n")
    return f"{first[:3]} {first[4:]}, and {len(further)} more lines" if further else heard


def _traceback(error: BaseException) -> list[str]:
    """The error, and the author's own lines on the way to it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_HOUSE)]
    shown = traceback.format_list(frames)
    return [
        f"error: {type(error).__name__}: {error}",
        *(line for frame in shown for line in frame.rstrip().splitlines()),
    ]


def _octets(message: bytes | str | Path) -> bytes:
    if isinstance(message, Path):
        message = message.read_bytes()
    if isinstance(message, str):
        message = message.encode("utf-8")
    return message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _make_fail(loaded: Loaded) -> None:
    async def fails(event: object) -> None:
        raise RuntimeError("made to fail, as asked")

    loaded.bindings = [replace(binding, hook=fails) for binding in loaded.bindings]
