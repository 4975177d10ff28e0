"""`sendmail` and `mailq`: the commands that other programs on a machine send mail with, as Sendmail's and Postfix's.

Strategy: arguments are read by hand, since other programs write them as they always have. Whoever may open the data
folder hands the message to the queue; anybody else gives it to the settings' first listener, whose routes say for whom
they are. What can't be done now is exit code 75, so that nothing is lost that the caller still has.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import TYPE_CHECKING, BinaryIO

from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.cli.frame import Frame
    from gatepost.app.sending import Sent
    from gatepost.app.settings import Settings
    from gatepost.model import Recipient

_WITH_VALUE = "ABCFLNORVXfhopr"  # options that take one, attached or as the next argument
_END = (b".\n", b".\r\n")
_USAGE = "sendmail [-t] [-i] [-f SENDER] [-F NAME] [-N NOTIFY] [-R full|hdrs] [-V ENVID] [-C FILE] [-bp] RECIPIENT …"
_IGNORED = frozenset("ABGLOUXehmnoprsvx")
_CONFIG = "GATEPOST_CONFIG"
_USUAL = File("/etc/gatepost/gatepost.toml")
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})


@dataclass(slots=True)
class Call:
    """What the arguments ask for. `mode` is the letter of -b: m (send), p (list the queue), s (speak SMTP) …"""

    mode: str = "m"
    sender: str | None = None
    name: str = ""
    reads_recipients: bool = False
    dot_ends: bool = True
    notify: str = ""
    ret: str = ""
    envid: str = ""
    config: str = ""
    flushes: bool = False
    recipients: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str]) -> Call:
    """The arguments as Sendmail reads them; Failure for an option that isn't known."""
    call = Call()
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--":
            call.recipients += left
            break
        if not argument.startswith("-") or argument == "-":
            call.recipients.append(argument)
            continue
        letter, value = argument[1], argument[2:]
        if letter in _WITH_VALUE and not value:
            if not left and letter not in "Lopr":
                raise Failure(f"-{letter} needs a value", Exit.USAGE, next_step=_USAGE)
            value = left.pop(0) if left and letter not in "o" else value
        _take(call, letter, value, argument)
    return call


def _take(call: Call, letter: str, value: str, argument: str) -> None:
    match letter:
        case "t":
            call.reads_recipients = True
        case "i":
            call.dot_ends = False
        case "o" if value == "i":
            call.dot_ends = False
        case "f" | "r":
            call.sender = value.removeprefix("<").removesuffix(">")
        case "F":
            call.name = value
        case "N":
            if value.upper() != "NEVER" and not _NOTIFY.issuperset(value.upper().split(",")):
                what = f'-N is never, or a list of success, failure and delay, not "{value}"'
                raise Failure(what, Exit.USAGE, next_step=_USAGE)
            call.notify = value
        case "R":
            call.ret = {"full": "FULL", "hdrs": "HDRS"}.get(value.lower(), "")
        case "V":
            call.envid = value
        case "C":
            call.config = value
        case "b":
            call.mode = value[:1]
        case "q":
            call.flushes = True
        case _ if letter in _IGNORED:
            return
        case _:
            raise Failure(f'there is no option "{argument}"', Exit.USAGE, next_step=_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """`sendmail`; the exit code is one of sysexits."""
    try:
        return _run(parse(sys.argv[1:] if arguments is None else arguments))
    except Failure as error:
        error.show()
        return error.code


def mailq(arguments: Sequence[str] | None = None) -> int:
    """`mailq`: the queue, as `gatepost queue list`."""
    return main(["-bp", *(sys.argv[1:] if arguments is None else arguments)])


def _run(call: Call) -> int:
    frame = _frame(call)
    match call.mode:
        case "p":
            return _command(frame, "queue", "list")
        case _ if call.flushes:
            return _command(frame, "queue", "flush")
        case "m":
            return _send(frame, call, sys.stdin.buffer)
        case "s":
            raise Failure("SMTP isn't spoken over standard input", Exit.USAGE, next_step="speak it to a listener")
        case _:
            raise Failure(f"-b{call.mode} isn't done by this sendmail", Exit.USAGE, next_step=_USAGE)


def _frame(call: Call) -> Frame:
    """The settings of this machine: what lies in the folder that the caller happens to be in is somebody else's."""
    from gatepost.app.cli.frame import Frame

    named = call.config or os.environ.get(_CONFIG, "")
    if not named and not _USUAL.is_file():
        what = f"whose mail server is it? There is no {_USUAL}"
        raise Failure(what, Exit.CONFIGURATION, next_step=f"-C FILE, or {_CONFIG}=FILE in the environment")
    return Frame(File(named) if named else _USUAL)


def _command(frame: Frame, *words: str) -> int:
    from gatepost.app.cli.frame import run

    return run([*(["-c", str(frame.config)] if frame.config else []), *words])


def _send(frame: Frame, call: Call, stdin: BinaryIO) -> int:
    from gatepost.content.headers import read_section
    from gatepost.content.outgoing import addressees
    from gatepost.model import AddressError, Bytes

    settings = frame.settings()
    content = b"".join(_lines(stdin, call.dot_ends))
    named = [_address(settings, one) for written in call.recipients for one in written.split(",") if one.strip()]
    if call.reads_recipients:
        found = addressees(read_section(Bytes(content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))))
        named = [one for one in found if one not in named]  # Sendmail's way: who is named besides -t is left out
    if not named:
        raise Failure("no recipients: name them, or give -t and a To field", Exit.USAGE, next_step=_USAGE)
    sender = _user_address(settings) if call.sender is None else call.sender and _address(settings, call.sender)
    try:
        recipients = _recipients(named, call)
        sent = asyncio.run(_give(settings, content, sender, recipients, call))
    except AddressError as error:
        raise Failure(f"no address: {error}", Exit.USAGE, next_step=_USAGE) from None
    for one in sent.refused:
        sys.stderr.write(f"sendmail: <{one.recipient}>: {one.reply}\n")
    if sent:
        return Exit.OK
    return Exit.UNAVAILABLE if any(one.reply.is_permanent for one in sent.refused) else Exit.TEMPORARY


async def _give(settings: Settings, content: bytes, sender: str, recipients: tuple[Recipient, ...], call: Call) -> Sent:
    """Into the queue where we may, else to the listener."""
    from gatepost.app.cli.access import as_the_server
    from gatepost.app.queueing import QueueError, queue
    from gatepost.app.send import send

    if settings.data is not None and _may_open(settings.data):
        as_the_server(settings)
        parameters = {key: value for key, value in (("RET", call.ret), ("ENVID", call.envid)) if value}
        try:
            return await queue(content, sender, recipients, settings, name=call.name, parameters=parameters)
        except QueueError as error:
            code = Exit(error.code) if error.code in set(Exit) else Exit.TEMPORARY
            raise Failure(str(error), code, next_step=error.mend) from None
    if not settings.mail_listeners:
        raise Failure("there is no queue that may be opened and no listener", Exit.NO_PERMISSION)
    where = settings.mail_listeners[0].address
    return await send(
        content, sender, [str(one) for one in recipients], mode=f"via {where}", hostname=settings.hostname
    )


def _may_open(data: File) -> bool:
    place = data if data.exists() else data.parent
    return os.access(place, os.W_OK | os.X_OK)


def _recipients(addresses: Sequence[str], call: Call) -> tuple[Recipient, ...]:
    from gatepost.model import Path, Recipient

    parameters = {"NOTIFY": call.notify.upper()} if call.notify else {}
    return tuple(Recipient(Path.parse(one, bare_postmaster=True), parameters) for one in dict.fromkeys(addresses))


def _address(settings: Settings, written: str) -> str:
    """A name alone is one of this machine."""
    written = written.strip().removeprefix("<").removesuffix(">")
    return written if "@" in written else f"{written}@{settings.hostname}"


def _user_address(settings: Settings) -> str:
    import getpass

    try:
        return f"{getpass.getuser()}@{settings.hostname}"
    except (KeyError, OSError):
        return f"postmaster@{settings.hostname}"


def _lines(stdin: BinaryIO, dot_ends: bool) -> Sequence[bytes]:
    if not dot_ends:
        return [stdin.read()]
    lines: list[bytes] = []
    for line in stdin:
        if line in _END:
            break
        lines.append(line)
    return lines
