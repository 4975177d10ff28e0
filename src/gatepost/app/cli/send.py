"""`gatepost send`: one message, to our own server or its queue, through another server, or straight to recipients."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, BinaryIO

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.sending import Content, Hear, Sent
    from gatepost.app.settings import Endpoint, Settings
    from gatepost.delivery.route import Hop

REFUSED = 1
LARGE = 256 * 1024  # octets; a message beyond has a progress bar
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  not bound to, replaced


@click.command("send")
@click.option("--to", multiple=True, required=True, help="A recipient; may be given again.")
@click.option("--from", "sender", help='The sender; "" for none. Default: postmaster at our hostname.')
@click.option("--subject", default="hello", show_default=True, help="The subject of a message made here.")
@click.option("--server", metavar="HOST:PORT", help="Through this server. Default: the settings' first listener.")
@click.option("--now", is_flag=True, help="Straight to the servers of the recipients' domains, once.")
@click.option("--queue", is_flag=True, help="Into the queue of our server, past its listeners.")
@click.option("--progress/--no-progress", default=None, help="A bar. Default: for large messages, on a terminal.")
@click.argument("file", required=False, type=click.File("rb"))
@pass_frame
def command(
    frame: Frame,
    *,
    to: tuple[str, ...],
    sender: str | None,
    subject: str,
    server: str | None,
    now: bool,
    queue: bool,
    progress: bool | None,
    file: BinaryIO | None,
) -> int:
    """Send a message, and print what the server says.

    The message is FILE ("-": standard input), or a small one made here. Exit code 0 if every recipient was accepted, 1
    if one was refused, 75 if it should be tried again later.
    """
    if sum([now, queue, server is not None]) > 1:
        raise Failure("--now, --queue and --server are three ways: choose one", Exit.USAGE)
    settings = frame.settings()
    back = f"postmaster@{settings.hostname}" if sender is None else sender
    if not all(to):
        raise Failure("a recipient has an address", Exit.USAGE, next_step="gatepost send --to ann@example.org")
    for address in (back, *to):
        _check(address)
    content = file if file is not None else _message(back, to, subject)
    hear, close = _bar(progress)
    try:
        if queue:
            sent = _queue(settings, content, back, to, hear)
        else:
            hop = None if now else _hop(frame, settings, server)
            sent = asyncio.run(_send(settings, hop, content, back, to, hear))
    finally:
        close()
    return _tell(sent)


def _check(address: str) -> None:
    from gatepost.model import AddressError, Path

    try:
        Path.parse(address, bare_postmaster=True)
    except AddressError as error:
        raise Failure(f'"{address}": {error}', Exit.USAGE, next_step="gatepost send --to ann@example.org") from None


def _tell(sent: Sent) -> int:
    for one in sent.results:
        where = f"  by {one.host}" if one.host else ""
        click.echo(f"{'accepted' if one.is_accepted else 'NOT ACCEPTED'}  <{one.recipient}>{where}")
        click.echo(f"  {one.reply}")
    if sent:
        return Exit.OK
    return REFUSED if any(one.reply.is_permanent for one in sent.refused) else Exit.TEMPORARY


def _message(sender: str, to: tuple[str, ...], subject: str) -> EmailMessage:
    try:
        message = EmailMessage(policy=SMTP)
        message["From"] = sender or "postmaster"
        message["To"] = ", ".join(to)
        message["Subject"] = subject
    except ValueError as error:
        raise Failure(f"no header can be made of this: {error}", Exit.USAGE) from None
    message.set_content("A message to try the server with, from `gatepost send`.\n")
    return message


def _queue(settings: Settings, content: Content, sender: str, to: tuple[str, ...], hear: Hear) -> Sent:
    from gatepost.app.cli.access import as_the_server
    from gatepost.app.queueing import QueueError, queue

    as_the_server(settings)
    try:
        return asyncio.run(queue(content, sender, to, settings, progress=hear))
    except QueueError as error:
        code = Exit(error.code) if error.code in set(Exit) else Exit.TEMPORARY
        raise Failure(str(error), code, next_step=error.mend) from None


async def _send(
    settings: Settings, hop: Hop | None, content: Content, sender: str, to: tuple[str, ...], hear: Hear
) -> Sent:
    from gatepost.app.send import without_listeners
    from gatepost.app.server import Server
    from gatepost.wire.smtp.client_events import Phase

    async with Server(without_listeners(settings, {})) as server:
        sent = await server.sending.directly(content, sender, to, via=hop, progress=hear)
    if hop is not None and all(one.phase is Phase.CONNECT for one in sent.results):
        next_step = "gatepost run, or --server HOST:PORT"
        raise Failure(f"nothing was sent: no server answers at {hop.hosts[0]}", Exit.TEMPORARY, next_step=next_step)
    return sent


def _hop(frame: Frame, settings: Settings, server: str | None) -> Hop:
    from gatepost.app.sending import next_server
    from gatepost.delivery.route import Host, Lmtp, Relay, Security

    if server is not None:
        try:
            return next_server(server)
        except ValueError as error:
            raise Failure(str(error), Exit.USAGE, next_step="--server 127.0.0.1:2525") from None
    if not settings.mail_listeners:
        raise Failure("these settings have no listener to send to", Exit.USAGE, next_step="--server, --queue or --now")
    there = settings.mail_listeners
    listener = next((one for one in there if one.tls != "implicit"), there[0])
    where = listener.address if listener.address.port else _asked_for(frame, settings, listener.name)
    here = _EVERYWHERE.get(where.host, where.host)
    host = Host(settings.hostname, where.port, address=here) if listener.tls == "implicit" else Host(here, where.port)
    tls = Security.IMPLICIT if listener.tls == "implicit" else Security.STARTTLS
    return Lmtp((host,), tls) if listener.protocol == "lmtp" else Relay((host,), tls)


def _asked_for(frame: Frame, settings: Settings, name: str) -> Endpoint:
    """Where a listener on port 0 really is: the running server knows."""
    from gatepost.app.cli.desk import ask
    from gatepost.app.settings.units import Endpoint

    for listener in ask(frame, "status", needs_server=True)["listeners"]:
        if listener["name"] == name:
            return Endpoint(*listener["address"])
    raise Failure(f"the running server has no listener {name}", Exit.UNAVAILABLE, next_step="--server HOST:PORT")


def _bar(wanted: bool | None) -> tuple[Hear, Callable[[], None]]:
    """Who hears of progress and draws it, and what ends the drawing."""
    from gatepost.app.sending import Progress, SendState

    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        return (lambda _: None), (lambda: None)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[tuple[str, ...], TaskID] = {}

    def hear(progress: Progress) -> None:
        if wanted is None and progress.size < LARGE:
            return
        if not tasks:
            bar.start()
        key = progress.recipients
        if key not in tasks:
            tasks[key] = bar.add_task("", total=progress.size)
        words = (
            progress.state.value if progress.state is not SendState.SENDING else progress.host or progress.state.value
        )
        bar.update(tasks[key], description=words, completed=progress.sent)

    return hear, lambda: bar.stop() if tasks else None
