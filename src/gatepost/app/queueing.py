"""Giving a message to the queue of a server on this machine, from another process.

Strategy: the content is put into the data folder (`handed-in/`), and the server that runs is told through its control
socket to take it from there; without one the spool is opened here. Whoever may open the data folder may send.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path as File
from stat import S_ISREG
from typing import Any

from gatepost.admin.queue import EX_TEMPFAIL, ActionError
from gatepost.app.control import ControlClient, ControlError, NotRunning
from gatepost.app.gates import delivery_routes
from gatepost.app.messages import Content, Messages
from gatepost.app.sending import Following, Hear, SendState, Sent, SentTo, aside, ends_after, envelope_of, user_here
from gatepost.app.settings import Settings
from gatepost.app.submission import SubmissionError, Submissions
from gatepost.model import Blob, Path, Recipient, Reply
from gatepost.serving.tokens import Tokens
from gatepost.store import SpoolError
from gatepost.store.blobs import FileBlob
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles

FOLDER = "handed-in"
ACTION = "submit"
EX_DATAERR = 65
_LEFT_S = 3600.0


class QueueError(OSError):
    """The message isn't in the queue; the text says why. `mend` what to do, `code` an exit code of sysexits."""

    def __init__(self, text: str, mend: str = "", code: int = EX_TEMPFAIL) -> None:
        super().__init__(text)
        self.mend = mend
        self.code = code


async def queue(
    message: Content,
    sender: str,
    recipients: str | Sequence[str] | Sequence[Recipient],
    settings: Settings,
    *,
    progress: Hear | None = None,
    name: str = "",
    parameters: Mapping[str, str] | None = None,
    expire: str | float | None = None,
) -> Sent:
    """Durable when this returns. `name` is shown in a From that is missing, `parameters` are MAIL's; delivery is tried
    until `expire` ("24h", or seconds) is over.

    Raises QueueError, ValueError (AddressError) for an envelope that can't be, OSError where the message can't be read.
    """
    back, to = _envelope(sender, recipients)
    if settings.data is None:
        raise QueueError("these settings have no data folder, so there is no queue", 'data = "/var/lib/gatepost"', 78)
    facts = ends_after(expire)
    messages = Messages()
    try:
        blob = await aside(messages.take, message)
        following = Following(progress, blob.size)
        following.say(SendState.SENDING, to)
        given = {
            "sender": back.address,
            "recipients": [[one.address, dict(one.parameters)] for one in to],
            "user": user_here(),
            "name": name,
            "parameters": dict(parameters or {}),
            "facts": dict(facts or {}),
        }
        ticket = await asyncio.to_thread(_hand_in, File(settings.data), blob, given)
        if ticket is None:
            ticket = await _store(File(settings.data), blob, given, settings)
    finally:
        messages.close()
    reply = Reply(250, "2.0.0", f"queued as {ticket}")
    results = tuple(SentTo(one.address, reply) for one in to)
    following.done(results)
    return Sent(results, ticket)


def sweep(data: File) -> None:
    """Remove what processes that died have left in the folder; an hour is enough for anybody who still lives."""
    for file in (data / FOLDER).glob("*"):
        with suppress(OSError):
            if file.stat().st_mtime < time.time() - _LEFT_S:
                file.unlink()


async def take_in(submissions: Submissions, data: File, arguments: Mapping[str, Any]) -> str:
    """The server's side: the ticket of what lies in the folder under `file`. ActionError says why not."""
    try:
        content = _found(data, str(arguments.get("file", "")))
        ticket = await _submit(submissions, content, arguments)
    except SpoolError as error:
        raise ActionError(f"the message can't be stored now: {error}", "look at the disk; try again later") from error
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise ActionError(f"the message can't be taken: {error}", code=EX_DATAERR) from error
    return ticket


def _envelope(sender: str, recipients: str | Sequence[str] | Sequence[Recipient]) -> tuple[Path, tuple[Recipient, ...]]:
    several = [recipients] if isinstance(recipients, str) else recipients
    parameters = {one.address: one.parameters for one in several if isinstance(one, Recipient)}
    back, to = envelope_of(sender, [str(one) for one in several])
    return back, tuple(Recipient(one.path, parameters.get(one.address, {})) for one in to)


def _hand_in(data: File, blob: Blob, given: Mapping[str, Any]) -> str | None:
    """The ticket the running server gave; None where none runs."""
    try:
        client = ControlClient(data)
    except NotRunning:
        return None
    folder = data / FOLDER
    file = folder / f"{os.getpid()}-{time.monotonic_ns()}"
    with client:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with file.open("xb") as out:
                for chunk in blob.chunks():
                    out.write(chunk)
            return str(client.ask(ACTION, {**given, "file": file.name}))
        except ControlError as error:
            raise QueueError(error.failure.message, error.failure.mend, error.failure.code) from error
        except OSError as error:
            raise QueueError(
                f"the message can't be handed in: {error.strerror or error}", "who may write there?"
            ) from error
        finally:
            file.unlink(missing_ok=True)


async def _store(data: File, blob: Blob, given: Mapping[str, Any], settings: Settings) -> str:
    """Without a server: into the first shard, whose owner we are for that long."""
    files = RealFiles()
    try:
        await asyncio.to_thread(files.make_dir, data)
        spool = await open_shard(data / "shards" / "0", files, time.time)
    except (SpoolError, OSError) as error:
        mend = "a server is starting or stopping, or the folder belongs to another user; try again"
        raise QueueError(f"there is no way into the queue: {error}", mend) from error
    routes = delivery_routes(settings)
    submissions = Submissions(
        spool,
        Tokens(0, time.time).next,
        hostname=settings.hostname,
        size_limit=settings.limits.message_size,
        has_room=lambda octets: files.free_space(data) - octets >= settings.spool.keep_free,
        has_route=lambda path, sender, user: routes.find(path, sender, user) is not None,
        record=lambda token, kind, facts: None,
    )
    try:
        return await _submit(submissions, blob, given)
    except SubmissionError as error:
        raise QueueError(str(error), code=EX_DATAERR) from error
    except SpoolError as error:
        raise QueueError(f"the message can't be stored now: {error}", "look at the disk; try again later") from error
    finally:
        await spool.close()


async def _submit(submissions: Submissions, content: Blob, given: Mapping[str, Any]) -> str:
    recipients = [
        Recipient(Path.parse(address, bare_postmaster=True), _parameters(parameters))
        for address, parameters in given["recipients"]
    ]
    ticket = await submissions.submit(
        content,
        Path.parse(str(given["sender"]), bare_postmaster=True),
        recipients,
        user=str(given.get("user", "")),
        name=str(given.get("name", "")),
        parameters=_parameters(given.get("parameters") or {}),
        facts=_parameters(given.get("facts") or {}),
    )
    return str(ticket)


def _found(data: File, name: str) -> FileBlob:
    if not name or "/" in name or name.startswith("."):
        raise ValueError("there is no such file in the folder for what is handed in")
    file = data / FOLDER / name
    facts = file.lstat()
    if not S_ISREG(facts.st_mode):  # a link may lead anywhere, a pipe is waited for without end
        raise ValueError("what lies there under this name isn't a file")
    return FileBlob(file, facts.st_size)


def _parameters(given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise ValueError("parameters have names and texts")
    return given
