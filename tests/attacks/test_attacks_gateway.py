"""Attacks that use us against somebody behind us: F6 (smuggling through a gateway), I3 (addresses as commands)."""

import time

import pytest

from gatepost.app.settings import Settings
from gatepost.model import Bytes, Path, Recipient, Reply, Ticket, token_at
from gatepost.serving.house import Gate, OpenTo
from gatepost.store.files import RealFiles
from gatepost.store.maildrop import Maildrop
from gatepost.testing.rig import Rig

LOOK_ALIKES = [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n"]
SECOND = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nboo\r\n"


@pytest.mark.parametrize("policy", ["refuse", "normalise"])
@pytest.mark.parametrize("end", LOOK_ALIKES, ids=repr)
async def test_F6_nothing_is_smuggled_to_a_server_behind_us(policy, end):
    given = []

    async def hand_over(session, transaction, envelope, content):
        given.append(content.read())
        return Reply(250, "2.0.0", "taken")

    settings = Settings.in_memory(hostname="mx.test", smtp={"bare_newline": policy})
    async with Rig(settings=settings, gates=[Gate("*", OpenTo.ANYONE, hand_over=hand_over)]) as rig:
        client = rig.connect()
        await client.reply()
        for line in ("EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"):
            await client.command(line)
        client.send(b"Subject: first\r\n\r\nhello" + end + SECOND + b".\r\n")
        heard = await client.reply()
        assert heard[:3] == ("550" if policy == "refuse" else "250")
        assert len(given) == (0 if policy == "refuse" else 1)
        for content in given:
            assert b"smuggled" in content  # it stays inside the one message
            assert content.replace(b"\r\n", b"").find(b"\r") < 0
            assert content.replace(b"\r\n", b"").find(b"\n") < 0
        assert (await client.command("NOOP")).startswith("250")


@pytest.mark.parametrize("local", ["|sh", "-oQ/tmp", "/etc/passwd", "`id`", "$(id)", "a;b", "../../x", "~root"])
async def test_I3_programs_are_not_addresses(local, tmp_path):
    address = f'"{local}"@example.org'
    async with Rig() as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO x.example")
        await client.command("MAIL FROM:<a@b.example>")
        assert (await client.command(f"RCPT TO:<{address}>"))[:3] in ("250", "553")
    drop = Maildrop(tmp_path / "mail", RealFiles())
    ticket = Ticket(token_at(int(time.time() * 1000), 0, 1), 1)
    await drop.deliver(f"{local}@example.org", ticket, Recipient(Path.parse(address)), Bytes(b"x\r\n"))
    await drop.close()
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) == 1
    assert written[0].resolve().is_relative_to((tmp_path / "mail" / "example.org").resolve())
