"""`gatepost dns`: the records that a domain's mail needs, whether they are there, and new keys to sign with."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.dns_records import Comparison, Record
    from gatepost.app.settings import Settings

_MARKS = {"ok": "ok", "missing": "MISSING", "different": "DIFFERENT", "unknown": "unknown"}


@click.group("dns", invoke_without_command=True)
@click.option("--domain", "domains", multiple=True, help="Only this domain; default: all that the settings name.")
@click.option("--check", "is_check", is_flag=True, help="Ask the DNS whether the records are there.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def command(context: click.Context, *, domains: tuple[str, ...], is_check: bool, as_json: bool) -> int:
    """Print the DNS records that our domains need; make keys.

    The records are printed as a zone file has them, for the domains of the settings. With --check the exit code is 0
    if all are there, 78 if one is missing or different, 75 if the DNS couldn't tell.
    """
    if context.invoked_subcommand is not None:
        return Exit.OK
    from gatepost.app.dns_records import own_domains, records
    from gatepost.content.dkim_keys import KeyProblem
    from gatepost.model import AddressError
    from gatepost.model.path import parse_domain

    frame = context.ensure_object(Frame)
    settings = frame.settings()
    try:
        wanted = [parse_domain(one) for one in domains] or own_domains(settings)
    except AddressError as error:
        raise Failure(str(error), Exit.USAGE, next_step="gatepost dns --domain example.org") from None
    if not wanted:
        raise Failure("the settings name no domain", Exit.CONFIGURATION, next_step="gatepost dns --domain example.org")
    now = datetime.now(UTC)
    try:
        found = {domain: list(records(settings, domain, now)) for domain in wanted}
    except (OSError, KeyProblem) as error:
        raise Failure(str(error), Exit.CONFIGURATION, next_step="gatepost check") from None
    if is_check:
        return _check(settings, found, as_json)
    if as_json:
        click.echo(json.dumps({domain: [_facts(one) for one in found[domain]] for domain in found}, indent=2))
        return Exit.OK
    for at, (domain, listed) in enumerate(found.items()):
        click.echo(("\n" if at else "") + f"; {domain}")
        for record in listed:
            if not record.is_hint:
                click.echo(f"; {'proposal: ' if record.is_proposal else ''}{record.why}")
            click.echo(record.line() + (f" ({record.why})" if record.is_hint else ""))
    return Exit.OK


@command.command("key")
@click.argument("selector")
@click.option("--domain", required=True, help="The domain that will sign with it.")
@click.option("--algorithm", type=click.Choice(["rsa", "ed25519"]), default="rsa", show_default=True)
@click.option("--bits", type=int, default=2048, show_default=True, help="For RSA: 1024 to 4096.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Where; default: `keys` beside the settings."
)
@pass_frame
def key(frame: Frame, *, selector: str, domain: str, algorithm: str, bits: int, folder: Path | None) -> None:
    """Make a key pair: the private key in a file that only its owner can read, the record to publish on the screen."""
    from gatepost.app.dns_records import Record
    from gatepost.content.dkim_keys import Algorithm, KeyProblem, check_selector, make_key
    from gatepost.model import AddressError
    from gatepost.model.path import parse_domain

    again = f"gatepost dns key s{datetime.now(UTC):%Y%m} --domain example.org"
    try:
        check_selector(selector)
        name = parse_domain(domain)
        made, pem = make_key(Algorithm.RSA if algorithm == "rsa" else Algorithm.ED25519, bits)
    except (KeyProblem, AddressError) as error:
        raise Failure(str(error), Exit.USAGE, next_step=again) from None
    beside = (frame.file or Path("gatepost.toml")).absolute().parent
    place = folder.absolute() if folder is not None else beside / "keys"
    file = place / f"{name}.{selector}.pem"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(file, pem)
        _give(file, frame)
    except FileExistsError:
        raise Failure(f"{file} is there already", Exit.CANT_CREATE, next_step=again) from None
    except OSError as error:
        raise Failure(f"{file} can't be made: {(error.strerror or '').lower()}", Exit.CANT_CREATE) from None
    shown = file.relative_to(beside) if file.is_relative_to(beside) else file
    record = Record(f"{selector}._domainkey.{name}", "TXT", made.public_record(), "")
    click.echo(f"{file}: the private key\n\nFor the DNS of {name}:\n{record.line()}\n\nFor the settings:")
    click.echo(f'[[dkim]]\ndomain = "{name}"\n[[dkim.key]]\nselector = "{selector}"\nfile = "{shown}"')


def _write(file: Path, pem: bytes) -> None:
    """A new file, for its owner only from the first octet on."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(pem)
        opened.flush()
        os.fsync(opened.fileno())


def _give(file: Path, frame: Frame) -> None:
    """What root made for a server that gives root up is that server's; the settings may name the key already."""
    from gatepost.app.privileges import Identity, PrivilegeError
    from gatepost.app.settings import SettingsError, load

    if os.geteuid() != 0 or frame.file is None:
        return
    try:
        run_as = load(frame.file, environ=os.environ).run_as
        identity = Identity.of(run_as) if run_as else None
    except (SettingsError, PrivilegeError):
        return  # `gatepost check` tells of it
    if identity is not None:
        os.chown(file, identity.uid, identity.gid)
        os.chown(file.parent, identity.uid, identity.gid)


def _check(settings: Settings, found: dict[str, list[Record]], as_json: bool) -> int:
    results = asyncio.run(_compared(settings, found))
    states = {one.state for compared in results.values() for one in compared}
    if as_json:
        rows = {
            domain: [
                {**_facts(one.record), "state": one.state, "found": one.found, "remark": one.remark} for one in each
            ]
            for domain, each in results.items()
        }
        click.echo(json.dumps(rows, indent=2))
    else:
        for compared in results.values():
            for one in compared:
                click.echo(_line(one))
    if states & {"missing", "different"}:
        return Exit.CONFIGURATION
    return Exit.TEMPORARY if "unknown" in states else Exit.OK


async def _compared(settings: Settings, found: dict[str, list[Record]]) -> dict[str, list[Comparison]]:
    from gatepost.app.dns_records import compare
    from gatepost.app.ourselves import resolver as resolver_of

    resolver = resolver_of(settings)
    try:
        compared = await asyncio.gather(*(compare(listed, resolver) for listed in found.values()))
        return dict(zip(found, compared, strict=True))
    finally:
        await resolver.close()


def _line(one: Comparison) -> str:
    said = "; ".join(text for text in (one.found, one.remark) if text)
    if one.state == "missing":
        said = one.record.line() if not one.record.is_hint else one.record.value
    return f"{_MARKS[one.state]:<10} {one.record.name} {one.record.type}" + (f"  {said}" if said else "")


def _facts(record: Record) -> dict[str, object]:
    return {
        "name": record.name,
        "type": record.type,
        "value": record.value,
        "why": record.why,
        "proposal": record.is_proposal,
        "hint": record.is_hint,
    }
