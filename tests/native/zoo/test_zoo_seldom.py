"""A plugin that crashes at every 5000th message, as some do that have run well for days: nobody else notices."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gatepost.app.settings.root import Settings
from gatepost.plugins.host import Backoff
from gatepost.plugins.indimail import load_indimail
from gatepost.plugins.loaded import Wish
from gatepost.plugins.mailenable import load_mailenable
from gatepost.plugins.program import load_program
from gatepost.testing.rig import Rig
from native.zoo.clients import body, content
from native.zoo.keeper import HERE, MANY, compiled

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(150)]
SESSIONS, EACH = 50, 102
EVERY, EVERY_PROGRAM = 5000, 50
FAILED = "451 4.3.0 a check couldn't be made, try again later"


async def test_every_5000th_message_crashes_a_plugin(tmp_path, caplog):
    """MailEnable's is asked about it once more, and answers. IndiMail's process is the session's own, and a program is
    the message's: there the message comes later."""
    caplog.set_level(logging.CRITICAL)
    counted = {}
    for dialect in ("mailenable", "indimail", "program"):
        counted[dialect] = tmp_path / f"{dialect}-count"
        counted[dialect].write_bytes(b"" if dialect == "program" else bytes(4))

    def more(dialect):
        every = EVERY_PROGRAM if dialect == "program" else EVERY
        rule = "rcpt to=*@program.example" if dialect == "program" else None
        return {
            "env": {"ZOO_EVERY": str(every), "ZOO_COUNT": str(counted[dialect])},
            "wishes": [Wish(stages=("message",), rule=rule)],
            "scratch": tmp_path,
        }

    plugins = [
        await load_mailenable(compiled(tmp_path), backoff=Backoff(0.02, 1.0), **more("mailenable")),
        await load_indimail(compiled(tmp_path, "INDIMAIL"), backoff=Backoff(0.02, 1.0), **more("indimail")),
        await load_program(str(HERE / "animals.sh"), **more("program")),
    ]
    settings = Settings.in_memory(hostname="mx.test", limits={"transactions_per_session": MANY})
    refused, accepted = [], []

    async def send(rig, number):
        client = rig.connect()
        await client.reply()
        await client.command("EHLO client.example")
        domain = "program.example" if number == 0 else "other.example"
        for count in range(EACH):
            id = f"{number}-{count}"
            for line in ("MAIL FROM:<a@b.example>", f"RCPT TO:<ann@{domain}>", "DATA"):
                assert (await client.command(line))[0] in "23"
            heard = await client.content(content(id, "tame"))
            assert heard.startswith("250 2.0.0 accepted") or heard.startswith(FAILED)
            (accepted if heard[0] == "2" else refused).append(id)
        assert (await client.command("QUIT")).startswith("221")

    async with Rig(plugins, settings=settings) as rig:
        await asyncio.gather(*(send(rig, number) for number in range(SESSIONS)))
        stored = [entry.content.read() for entry in await rig.spool.entries(limit=2 * SESSIONS * EACH)]
        failed = sorted(plugin for plugin, _, _ in rig.records.errors)
    ids = []
    for mail in stored:
        head, _, text = mail.partition(b"\r\n\r\n")
        [subject] = [line[9:].decode() for line in head.split(b"\r\n") if line.startswith(b"Subject: ")]
        assert text == body(subject).encode()
        ids.append(subject)
    assert sorted(ids) == sorted(accepted)
    assert int.from_bytes(counted["mailenable"].read_bytes(), "little") > SESSIONS * EACH  # it has crashed
    assert int.from_bytes(counted["indimail"].read_bytes(), "little") == SESSIONS * EACH
    assert failed == ["animals"] * 2 + ["animalsINDIMAIL"]
    assert len(refused) == 3
