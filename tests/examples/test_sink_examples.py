"""The event sinks among the examples do what their first comments promise, built and loaded by what stands there."""

from __future__ import annotations

import shutil

import pytest

from examples.building import EXAMPLES, PREFIXES, ROOT, build, build_lines, settings_of
from gatepost.app.dialects import load_plugins
from gatepost.app.settings import load as load_settings
from gatepost.testing.rig import Rig

KINDS = [
    pytest.param(".so", marks=pytest.mark.needs("cc")),
    pytest.param(".dll", marks=pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64")),
]
pytestmark = pytest.mark.timeout(240)  # a first Wine prefix takes its time


@pytest.fixture(params=KINDS)
def loaded(request, tmp_path, monkeypatch):
    """Called with an example: its plugin."""
    monkeypatch.setattr("gatepost.plugins.host.wine.cache_folder", lambda: PREFIXES)

    async def load(example):
        shutil.copy(EXAMPLES / example, tmp_path)
        for header in (ROOT / "native").glob("gatepost_sinks*.h"):
            shutil.copy(header, tmp_path)
        for words in build_lines(EXAMPLES / example):
            if words[words.index("-o") + 1].endswith(request.param):
                build(words, tmp_path)
        file = tmp_path / "gatepost.toml"
        file.write_text(settings_of(EXAMPLES / example).replace(".dll", request.param))
        (plugin,) = await load_plugins(load_settings(file, environ={}).plugin)
        return plugin

    return load


async def test_who_greets_with_our_own_name_is_sent_away(loaded):
    async with Rig([await loaded("sink_shield.c")]) as rig:
        for greeting in ("EHLO mx.test", "HELO LOCALHOST"):
            client = rig.connect()
            await client.reply()
            name = greeting.partition(" ")[2]
            heard = await client.command(greeting)
            assert heard == f"421 I am not talking to {name}, and you aren't it"
            assert await client.reply() == ""  # it has closed
        client = rig.connect()
        await client.reply()
        for line in ("HELO mx.test.example", "EHLO " + "x" * 200, "NOOP"):
            assert (await client.command(line)).startswith("250")


async def test_a_listed_recipient_is_refused_and_the_others_are_not(loaded):
    async with Rig([await loaded("sink_recipients.c")]) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO c.example")
        await client.command("MAIL FROM:<dave@bobo.example>")
        heard = [
            await client.command(f"RCPT TO:<{one}>")
            for one in ("ann@example.org", "Sales@Example.org", "info@example.org", "salesman@example.org")
        ]
        ok, refused = "250 2.1.5 recipient ok", "550 5.7.1 this address takes no mail from outside"
        assert [reply.partition(" (")[0] for reply in heard] == [ok, refused, refused, ok]
        await client.command("DATA")
        assert (await client.content(b"Subject: hello\r\n\r\nHello.\r\n")).startswith("250 2.0.0")
        (entry,) = await rig.spool.entries()
    assert [str(one.path) for one in entry.envelope.recipients] == ["ann@example.org", "salesman@example.org"]
