"""Sessions that no client would hold, past event sinks: those of the examples, and some that do as they like."""

from __future__ import annotations

import logging
import subprocess
import zlib
from pathlib import Path

import pytest

from gatepost.plugins.loaded import Wish
from gatepost.plugins.sink import (
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_S_CONSUMED,
    EXPE_TRANSIENT_FAILURE,
    S_FALSE,
    S_OK,
    load_sink,
)
from gatepost.testing.chaos import Knobs, run_with
from programs import program

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
SOURCE = str(HERE.parents[1] / "examples" / "event_sinks.py")
KNOBS = Knobs(verbs=("XVACATION",), recipients=("ann@example.org", "bob@example.org", "ann@old.example"))


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What attacks look like in a log isn't what is looked at here, but for errors."""
    caplog.set_level(logging.ERROR, "gatepost.serving")


async def held(plugins, sessions, seed, knobs=KNOBS, **more):
    report = await run_with(plugins, sessions=sessions, seed=seed, knobs=knobs, patience_s=40, **more)
    assert report.is_clean, str(report)[:6000]
    return report


async def example(name, rule, priority=None, stage="command", **properties):
    wish = Wish(stages=(stage,), rule=rule, priority=priority)
    return await load_sink(f"{SOURCE}:{name}", name=f"{name}{priority or ''}", wishes=[wish], properties=properties)


async def test_the_sinks_of_the_examples():
    sinks = [
        await example("Shield", "EHLO", names="mx.test localhost"),
        await example("Denied", "RCPT", names="bob@example.org"),
        await example("Greylist", "RCPT", delay=0),
        await example("Vacation", "XVACATION"),
        await example("Vacation", "EHLO", 24600),
        await example("Renamed", "rcpt to=*@old.example", stage="message"),
    ]
    report = await held(sinks, 200, 11_000_000)
    assert report.taken > 30
    assert report.replies[354] > 100
    assert report.replies[421] > 3, "the shield has dropped sessions"


class Whims:
    """A class that answers every command in some way, depending on its octets only."""

    def IsCacheable(self):
        return S_OK

    def OnSmtpInCommand(self, server, session, message, context):
        command = context.QueryCommand()
        match zlib.crc32(command.encode()) % 40:
            case 0:
                context.SetResponse("550 5.7.1 no\r\n\0x\r\nand no")
                context.SetCommandStatus(EXPE_COMPLETE_FAILURE)
                return S_FALSE
            case 1:
                context.SetResponse("without a code")
                context.SetCommandStatus(EXPE_TRANSIENT_FAILURE)
                return EXPE_S_CONSUMED
            case 2:
                context.AppendResponse("250-x" * 300)
            case 3:
                context.SetResponse("221 bye\r\n")
                context.SetCommandStatus(EXPE_DROP_SESSION)
                return S_FALSE
            case 4:
                context.SetSmtpStatusCode(252)
            case 5:
                context.SetProtocolErrorFlag(True)
            case 6:
                context.SetNativeResponse("250 mine\r\n\r\n999 or not")
            case 7:
                return EXPE_S_CONSUMED
            case 8:
                context.SetCommandStatus(EXPE_COMPLETE_FAILURE)
            case 9:
                context.SetResponse("\x1b[2J\r\x00\n" * 50)
        return S_OK


@pytest.mark.parametrize(("priority", "seed"), [(None, 12_000_000), (30000, 13_000_000)], ids=["before", "after"])
async def test_a_sink_that_does_as_it_likes(priority, seed):
    """Before the house and after it."""
    report = await held(
        [await load_sink(Whims, name="whims", wishes=[Wish(priority=priority)])], 300, seed, plain_every=0
    )
    assert report.taken > 10


@pytest.mark.needs("cc")
async def test_a_com_class_that_does_as_it_likes(tmp_path):
    library = tmp_path / "whims.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
    subprocess.run([program("cc"), *flags, "-o", library, HERE / "chaos_whims.c"], check=True)
    sink = await load_sink(library, scratch=tmp_path)
    report = await held([sink], 150, 14_000_000, Knobs(verbs=("XWHIM",)), plain_every=0)
    assert report.taken > 5
    assert report.replies[354] > 20
