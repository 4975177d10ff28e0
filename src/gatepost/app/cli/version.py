"""`gatepost version`: which Gatepost this is, and what it runs on."""

from __future__ import annotations

import json
import platform
import ssl

import rich_click as click

import gatepost


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def command(*, as_json: bool) -> None:
    """Say the version of Gatepost and of what it runs on."""
    facts = {
        "gatepost": gatepost.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "tls": ssl.OPENSSL_VERSION,
    }
    click.echo(json.dumps(facts) if as_json else "\n".join(f"{name:<9} {value}" for name, value in facts.items()))
