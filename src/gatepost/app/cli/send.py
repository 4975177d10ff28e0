"""`gatepost send`: hands one message to a server, by the client machine that delivery uses, and prints the answer."""

from __future__ import annotations

import asyncio
import re
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime, make_msgid
from typing import IO, TYPE_CHECKING

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.settings import Endpoint, Settings
    from gatepost.delivery.route import Hop
    from gatepost.model import Path, Recipient
    from gatepost.wire.smtp.client_events import Outcome

REFUSED = 1
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  not bound to, replaced
_LINE_END = re.compile(rb"\r\n|\r|\n")


@click.command("send")
@click.option("--to", multiple=True, required=True, help="A recipient; may be given again.")
@click.option("--from", "sender", help='The sender; "" for none. Default: postmaster at our hostname.')
@click.option("--subject", default="hello", show_default=True, help="The subject of a message made here.")
@click.option("--server", metavar="HOST:PORT", help="Where to. Default: the settings' first listener.")
@click.argument("file", required=False, type=click.File("rb"))
@pass_frame
def command(
    frame: Frame, *, to: tuple[str, ...], sender: str | None, subject: str, server: str | None, file: IO[bytes] | None
) -> int:
    """Send FILE ("-": standard input), or a small message made here, and print what the server says.

    Exit code 0 if every recipient was accepted, 1 if one was refused, 75 if it should be tried again later.
    """
    from gatepost.model import Recipient

    settings = frame.settings()
    reverse_path = _path(f"postmaster@{settings.hostname}" if sender is None else sender)
    if not all(to):
        raise Failure("a recipient has an address", Exit.USAGE, next_step="gatepost send --to ann@example.org")
    recipients = tuple(Recipient(_path(address)) for address in to)
    content = _LINE_END.sub(b"\r\n", file.read()) if file is not None else _message(reverse_path, to, subject)
    hop = _hop(frame, settings, server)
    outcomes = asyncio.run(_send(settings.hostname, hop, reverse_path, recipients, content))
    for outcome in outcomes:
        click.echo(f"{'accepted' if outcome.reply.is_positive else 'NOT ACCEPTED'}  <{outcome.recipient}>")
        click.echo(f"  {outcome.reply}")
    if all(outcome.reply.is_positive for outcome in outcomes):
        return Exit.OK
    return REFUSED if any(outcome.reply.is_permanent for outcome in outcomes) else Exit.TEMPORARY


def _path(address: str) -> Path:
    from gatepost.model import AddressError, Path

    try:
        return Path.parse(address, bare_postmaster=True)
    except AddressError as error:
        raise Failure(f'"{address}": {error}', Exit.USAGE, next_step="gatepost send --to ann@example.org") from None


def _message(sender: Path, to: tuple[str, ...], subject: str) -> bytes:
    try:
        message = EmailMessage(policy=SMTP)
        message["From"] = sender.address or "postmaster"
        message["To"] = ", ".join(to)
        message["Subject"] = subject
    except ValueError as error:
        raise Failure(f"no header can be made of this: {error}", Exit.USAGE) from None
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = make_msgid(domain=sender.domain or "localhost")
    message.set_content("A message to try the server with, from `gatepost send`.\n")
    return bytes(message)


def _hop(frame: Frame, settings: Settings, server: str | None) -> Hop:
    from pydantic_core import PydanticCustomError

    from gatepost.app.settings.units import parse_endpoint
    from gatepost.delivery.route import Host, Lmtp, Relay, Security

    if server is not None:
        try:
            where = parse_endpoint(server, port=25)
        except (PydanticCustomError, ValueError) as error:
            raise Failure(str(error), Exit.USAGE, next_step="--server 127.0.0.1:2525") from None
        return Relay((Host(where.host, where.port),))
    listener = settings.listen[0]
    where = listener.address if listener.address.port else _asked_for(frame, settings, listener.name)
    host = Host(_EVERYWHERE.get(where.host, where.host), where.port)
    tls = Security.IMPLICIT if listener.tls == "implicit" else Security.STARTTLS
    if listener.protocol == "lmtp":
        return Lmtp((host,), tls)
    return Relay((host,), tls)


def _asked_for(frame: Frame, settings: Settings, name: str) -> Endpoint:
    """Where a listener on port 0 really is: the running server knows."""
    from gatepost.app.cli.desk import ask
    from gatepost.app.settings.units import Endpoint

    for listener in ask(frame, "status", needs_server=True)["listeners"]:
        if listener["name"] == name:
            return Endpoint(*listener["address"])
    raise Failure(f"the running server has no listener {name}", Exit.UNAVAILABLE, next_step="--server HOST:PORT")


async def _send(
    hostname: str, hop: Hop, sender: Path, recipients: tuple[Recipient, ...], content: bytes
) -> tuple[Outcome, ...]:
    from gatepost.delivery import Contexts, Dialer, Unreachable
    from gatepost.model import Body, Bytes
    from gatepost.net.certificates import client_context
    from gatepost.wire.smtp.client_events import Phase, Transaction

    anybody = client_context(verify=False)  # the administrator's own server, perhaps under a name that isn't its own
    connection = await Dialer(hostname, contexts=Contexts(anybody, anybody)).open(hop, hop.hosts[0])
    if isinstance(connection, Unreachable) and connection.phase is Phase.CONNECT:
        next_step = "gatepost run, or --server HOST:PORT"
        raise Failure(f"nothing was sent: no server answers at {hop.hosts[0]}", Exit.TEMPORARY, next_step=next_step)
    if isinstance(connection, Unreachable):
        raise Failure(f"nothing was sent: {connection.reply}", Exit.TEMPORARY, next_step="gatepost run, or --server")
    try:
        body = Body.SEVEN_BIT if content.isascii() else Body.EIGHT_BIT_MIME
        header, _, _ = content.partition(b"\r\n\r\n")
        transaction = Transaction(sender, recipients, len(content), body, not header.isascii())
        return await connection.send(transaction, Bytes(content))
    finally:
        await connection.close()
