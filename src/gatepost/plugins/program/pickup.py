"""MailEnable's MTA pickup event: a command file and a message file, in the folders where a pickup program looks.

`program messagefilename connectortype`; the data root has `QUEUES/<CONN>/Inbound/<id>.MAI` (the envelope) and
`…/Inbound/Messages/<id>.MAI` (contract: MTA pickup event). What the program does to the files is its answer.
"""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path as File
from secrets import token_hex

from gatepost.hooks.stages import Message
from gatepost.model import Blob, Bytes
from gatepost.plugins.host.scratch import SMALL
from gatepost.plugins.program.envelope import Addresses, EnvelopeError
from gatepost.plugins.program.running import ProgramFailed
from gatepost.store.blobs import FileBlob

INBOUND = "QUEUES/{connector}/Inbound"
_ENCODING = "utf-8"
_PIECE = 256 * 1024
_CUT = re.compile(r'(?P<quoted>"(?:[^"\\]|\\.)*")|;|(?<=\])(?=\[)')


def new_name() -> str:
    """A GUID without punctuation, and the suffix."""
    return f"{token_hex(16).upper()}.MAI"


def command_file(event: Message, told: Addresses, name: str) -> bytes:
    """The envelope as `Key=Value` lines, in the order of real ones; addresses as `[SMTP:a@b]`."""
    session = event.session
    account = told.recipients[0].rpartition("@")[2] if told.recipients else ""
    lines = {
        "Recipients": _listed(told.recipients),
        "Server": event.server.hostname,
        "Sender": f"[SMTP:{told.sender}]" if told.sender else "",
        "TimeAcquired": str(int(time.time())),
        "ClientIP": str(session.peer.address),
        "AuthenticationStatus": "0" if session.user is None else "1",
        "User": session.user or "",
        "Account": account,
        "Status": "Delivering",
        "CommandType": "MESSAGE",
        "Subject": event.message.headers.get("Subject") or "",
    }
    return "".join(f"{key}={_one_line(value)}\r\n" for key, value in lines.items()).encode(_ENCODING)


def read_command_file(octets: bytes, before: Addresses) -> Addresses:
    """The envelope that the file says now; what it doesn't say stays. EnvelopeError."""
    try:
        text = octets.decode(_ENCODING)
    except UnicodeDecodeError:
        raise EnvelopeError("the command file it left isn't UTF-8") from None
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    recipients = before.recipients
    if "Recipients" in found:
        recipients = tuple(_unwrapped(item) for item in _items(found["Recipients"]))
    return Addresses(_unwrapped(found.get("Sender", before.sender).strip()), recipients)


def read_back(path: File, most: int, to: File) -> Blob | None:
    """What the program left in place of the file; None if there is nothing. ProgramFailed for anything but a file.

    It is read once, through one descriptor, and kept at `to` if it is large: what the program has started may have it
    open still.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProgramFailed(f"the file it left can't be read: {error.strerror}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise ProgramFailed("what it left isn't a plain file")
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > most:
            raise ProgramFailed(f"it left more than {most} octets")
        if found.st_size <= SMALL:
            return Bytes(file.read(SMALL))
        left = most
        with to.open("xb") as copy:
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                left -= copy.write(piece)
    return FileBlob(to, most - left)


def _listed(recipients: tuple[str, ...]) -> str:
    return "; ".join(f"[SMTP:{recipient}]" for recipient in recipients)


def _items(text: str) -> list[str]:
    """What stands between `;` or within `][`, but for those in quoted local parts."""
    found, at = [], 0
    for cut in _CUT.finditer(text):
        if cut["quoted"] is None:
            found.append(text[at : cut.start()].strip())
            at = cut.end()
    found.append(text[at:].strip())
    return [item for item in found if item]


def _unwrapped(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    kind, colon, rest = text.partition(":")
    return rest if colon and kind.upper() == "SMTP" else text


def _one_line(value: str) -> str:
    return "".join(one if one.isprintable() else " " for one in value)
