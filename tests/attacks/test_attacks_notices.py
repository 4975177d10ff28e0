"""Attacks by way of what is said and asked for in mail: I5 on a whole server, L2 and L4 as they reach the spool."""

from __future__ import annotations

import pytest

from gatepost.testing.rig import Rig

EVIL = ["+00", "a+0Ab", "+0D+0ABcc:x", "a+b", "a=b", "+7F", "+80"]


@pytest.mark.parametrize("evil", EVIL)
async def test_I5_nothing_that_breaks_a_line_comes_to_rest(evil):
    async with Rig() as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO x.example")
        assert (await client.command(f"MAIL FROM:<a@b.example> ENVID={evil}")).startswith("501 5.5.4")
        assert (await client.command("MAIL FROM:<a@b.example> ENVID=ok+2B RET=FULL")).startswith("250")
        assert (await client.command(f"RCPT TO:<c@d.example> ORCPT=rfc822;{evil}")).startswith("501 5.5.4")
        assert (await client.command("RCPT TO:<c@d.example> NOTIFY=NEVER ORCPT=rfc822;c+2Bx@d.example")).startswith(
            "250"
        )
        assert (await client.command("DATA")).startswith("354")
        assert (await client.content(b"Subject: x\r\n\r\nhello\r\n")).startswith("250")
        [entry] = await rig.spool.entries()
        assert entry.envelope.parameters == {"ENVID": "ok+2B", "RET": "FULL"}
        assert [dict(recipient.parameters) for recipient in entry.envelope.recipients] == [
            {"NOTIFY": "NEVER", "ORCPT": "rfc822;c+2Bx@d.example"}
        ]


@pytest.mark.parametrize(("hops", "code"), [(99, "250"), (101, "554 5.4.6")])
async def test_L2_a_report_that_goes_round_is_cut(hops, code):
    async with Rig() as rig:
        client = rig.connect()
        await client.reply()
        for line in ("EHLO x.example", "MAIL FROM:<>", "RCPT TO:<c@d.example>", "DATA"):
            await client.command(line)
        content = b"Received: from a by b; Tue, 24 Nov 2026 06:00:00 +0000\r\n" * hops + b"Subject: x\r\n\r\nhello\r\n"
        assert (await client.content(content)).startswith(code)
        assert rig.spool.counts().queued == (code == "250")
