"""Sessions that no client would hold, some thousands of them, past each dialect, in memory and over TCP.

This is the portion that each check can afford; the same by hand, as many as one likes:
`gatepost test --chaos examples/keywords.py --sessions 100000`. Each dialect begins at a number of its own, so that no
session is held twice.
"""

from __future__ import annotations

import logging
import subprocess
import zlib
from pathlib import Path

import pytest
import trustme

import gatepost
from gatepost.hooks.api import accept, hangup, on, quarantine, refuse, tempfail
from gatepost.hooks.verdicts import Converse, Respond
from gatepost.model import Reply
from gatepost.plugins.host import Backoff
from gatepost.plugins.indimail import load_indimail
from gatepost.plugins.mailenable import load_mailenable
from gatepost.plugins.program import ProgramOptions, load_program
from gatepost.plugins.python import load, load_isolated
from gatepost.testing.chaos import Knobs, TcpArena, run, run_with
from programs import program

EXAMPLES = Path(__file__).parents[2] / "examples"
KNOBS = Knobs(recipients=("ann@example.org", "bob@example.org", "sales@example.org", "who@yahoo.com"))
QUICK = Backoff(0.02, 0.5)


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What attacks look like in a log isn't what is looked at here, but for errors."""
    caplog.set_level(logging.ERROR, "gatepost.serving")


async def held(plugins, sessions, seed, **more):
    """The report of so many sessions; it must be clean."""
    report = await run_with(
        plugins, sessions=sessions, seed=seed, knobs=more.pop("knobs", KNOBS), patience_s=30, **more
    )
    assert report.is_clean, str(report)[:6000]
    assert report.sessions == sessions
    assert report.taken > sessions // 20, "most of what should be taken is refused: nothing is looked at"
    return report


async def test_the_server_alone():
    report = await held([], 2000, 1_000_000)
    assert {220, 221, 250, 334, 353, 354, 421, 500, 501, 503, 550, 552, 553, 554, 555} <= set(report.replies)


@on("connect")
@on("hello")
@on("sender")
@on("recipient")
@on("data")
@on("headers")
@on("message")
async def judges(event):
    """Every verdict and some edits, by what little it knows."""
    known = (type(event).__name__, event.session.helo, *map(str, getattr(event, "recipients", ())), event.reply)
    match zlib.crc32(repr(known).encode()) % 60 + (type(event).__name__ == "Connect") * 6:
        case 0:
            return refuse("not this one")
        case 1:
            return tempfail("come later")
        case 2 if hasattr(event, "sender"):
            return quarantine("looks odd")
        case 3:
            return accept("stage")
        case 4:
            return hangup("go away")
        case 5 if hasattr(event, "add_header"):
            event.add_header("X-Seen", "caf\N{LATIN SMALL LETTER E WITH ACUTE}\r\nX-Injected: yes")
        case 6:
            event.say("thank\r\n250 you\0")
        case _:
            return None


async def test_a_plugin_that_judges_everywhere():
    await held([load(judges)], 1000, 2_000_000)


@on("command")
async def takes_part(event):
    """Own verbs, answers in the place of the house, exchanges of several lines."""
    verb, _, argument = event.line.partition(" ")
    if getattr(event, "blob", None):
        return Respond(Reply(250, "2.0.0", "taken\r\n250 and more")) if event.blob.endswith(b".\r\n") else None
    match verb.upper():
        case "XBLOB":
            return Converse(Reply(354, "", "go on"), lines=5)
        case "XOCTETS":
            return Converse(Reply(334, "", "=" * 600), lines=None, octets=100)
        case "VRFY":
            return Respond(Reply(252, "2.1.5", f"perhaps {argument}"))
        case "HELP":
            return refuse(502, "5.5.1", "no help\nat all")
        case "BDAT" if argument[:1] in "123":
            return refuse(452, "4.5.3", "not that many")  # the chunk's octets aren't commands all the same
        case "BDAT" if argument[:1] in "45":
            return Respond(Reply(250, "2.0.0", "as if they were taken"))
        case _:
            return None


@on("reply")
async def rewords(event):
    if event.reply.code in (250, 500) and len(event.reply.text) % 3 == 0:
        return Respond(Reply(event.reply.code, event.reply.status, event.reply.text + "\r\n\0" + "\u2028" + "z" * 700))
    return None


async def test_plugins_that_answer_themselves():
    knobs = Knobs(verbs=("XBLOB", "XOCTETS"))
    await held([load(takes_part), load(rewords)], 400, 3_000_000, knobs=knobs)


async def test_a_plugin_of_the_examples_in_a_process_of_its_own(tmp_path):
    plugin = await load_isolated(EXAMPLES / "keywords.py", scratch=tmp_path, backoff=QUICK)
    await held([plugin], 500, 4_000_000)


@pytest.fixture
def library(tmp_path):
    """Called with an example's name: the library that it makes."""

    def built(name):
        output = tmp_path / f"{name}.so"
        words = ["-shared", "-fPIC", "-O1", "-o", str(output), str(EXAMPLES / f"{name}.c")]
        subprocess.run([program("cc"), *words], check=True)
        return output

    return built


@pytest.mark.needs("cc")
async def test_a_plugin_of_mailenable(library, tmp_path):
    plugin = await load_mailenable(
        library("mailenable_keywords"), env={"KEYWORDS": "lottery,viagra"}, scratch=tmp_path, backoff=QUICK
    )
    report = await held([plugin], 600, 5_000_000)
    assert report.replies[554] > 3, "it has refused words"


@pytest.mark.needs("cc")
async def test_a_plugin_of_indimail(library, tmp_path):
    plugin = await load_indimail(library("indimail_refuser"), scratch=tmp_path, backoff=QUICK)
    report = await held([plugin], 500, 6_000_000)
    assert report.replies[530] > 10, "it has refused Yahoo"


async def test_a_program(tmp_path):
    script = tmp_path / "filter.sh"
    script.write_text((EXAMPLES / "filter.sh").read_text())
    script.chmod(0o755)
    options = ProgramOptions(mode="filter", discard="99")
    plugin = await load_program(f"{script} {{EMAILFILESPEC}}", options=options, scratch=tmp_path)
    await held([plugin], 80, 7_000_000)


async def test_over_tcp_with_tls(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("mx.test")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    server = gatepost.Server(
        listen="127.0.0.1:0", hostname="mx.test", tls={"certificate": [{"chain": str(chain), "key": str(key)}]}
    )  # fmt: skip
    async with server:
        report = await run(TcpArena(server.host, server.port), sessions=200, seed=8_000_000, patience_s=20)
    assert report.is_clean, str(report)[:6000]
    assert report.taken > 40
