"""IndiMail's plugins in the corners: shadows, several transactions, odd addresses, libraries that change meanwhile."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace

import pytest

from gatepost.app.settings.root import Settings
from gatepost.plugins.host import Backoff
from gatepost.plugins.indimail import IndimailOptions, load_indimail
from gatepost.plugins.loaded import Wish
from gatepost.testing import try_plugin
from gatepost.testing.rig import Rig
from native.indimail.compiling import compiled, order
from unit.plugins_indimail.test_indimail_reception import mail, plain, rcpt

pytestmark = pytest.mark.needs("cc")
BODY = b"Subject: x\r\n\r\nbody\r\n"
SHOW = b"Subject: x\r\n\r\nSHOW\r\n"


@pytest.fixture(scope="session")
def telling(tmp_path_factory):
    return compiled("telling", tmp_path_factory.mktemp("review") / "telling.so")


@pytest.fixture
def load(tmp_path):
    async def loaded(source, **more):
        return await load_indimail(source, **{"scratch": tmp_path, "backoff": Backoff(0.01, 1.0)} | more)

    return loaded


async def test_a_shadow_that_refuses_drops_nobody(telling, load):
    loaded = await load(telling, options=IndimailOptions(drop_on_reject=True), wishes=[Wish(shadow=True)])
    async with Rig([loaded]) as rig:
        client, _ = await mail(rig)
        assert (await rcpt(client, "say-0")).startswith("250")
        await rig.patience.idle()
        assert (await client.command("NOOP")).startswith("250")


async def test_the_clients_name_is_waited_for_though_a_shadow_has_asked_for_it_first(telling, load):
    loaded = await load(telling, wishes=[Wish(("sender",), shadow=True), Wish(("recipient",))])
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def lookup(address):
        asked.set()
        await goes_on.wait()
        return "c.example"

    async with Rig([loaded]) as rig:
        client = rig.connect()
        rig.last_session.peer = replace(rig.last_session.peer, lookup=lookup)
        await client.reply()
        await client.command("EHLO c.example")
        assert (await client.command("MAIL FROM:<dave@bobo.example>")).startswith("250")
        await asked.wait()
        client.send(b"RCPT TO:<env-TCPREMOTEHOST@x.example>\r\n")
        while client.line.pending:  # until it is asked
            await asyncio.sleep(0)
        goes_on.set()
        assert plain(await client.reply()) == "550 5.7.1 TCPREMOTEHOST=c.example"


async def test_a_shadow_at_the_end_is_asked_though_the_transaction_is_over(telling, load):
    loaded = await load(telling, wishes=[Wish(("message",), shadow=True)])
    async with Rig([loaded]) as rig:
        client, _ = await mail(rig)
        await rcpt(client, "fine")
        await client.command("DATA")
        assert (await client.content(SHOW)).startswith("250")
        await client.command("QUIT")
        await rig.settled()
        assert not rig.records.errors
        (shadow,) = [one for one in rig.records.kinds("asked") if one.get("shadow")]
        assert shadow["verdict"]["say"] == "refuse"


async def test_sessions_whose_shadows_come_late_give_their_process_back(telling, load):
    loaded = await load(telling, processes=2, wishes=[Wish(("message",), shadow=True)])
    async with Rig([loaded]) as rig:
        for _ in range(6):
            client, _ = await mail(rig)
            await rcpt(client, "fine")
            await client.command("DATA")
            assert (await client.content(BODY)).startswith("250")
            client.line.end_of_file()
        await asyncio.wait_for(rig.settled(), 20)
        assert not rig.records.errors


async def test_two_transactions_and_rset_in_one_process(telling, load):
    async with Rig([await load(telling)]) as rig:
        client, _ = await mail(rig, "one@bobo.example")
        assert (await rcpt(client, "fine")).startswith("250")
        await client.command("RSET")
        assert (await client.command("MAIL FROM:<two@bobo.example>")).startswith("250")
        assert await rcpt(client, "args") == "550 5.7.1 ip=192.0.2.1 from=two@bobo.example rcpt=args@x.example"
        assert await rcpt(client, "env-GATEPOST_MESSAGE_PATH") == "550 5.7.1 GATEPOST_MESSAGE_PATH=(unset)"
        await rcpt(client, "fine")
        await client.command("DATA")
        assert (await client.content(BODY)).startswith("250")
        await client.command("MAIL FROM:<>")
        assert await rcpt(client, "args") == "550 5.7.1 ip=192.0.2.1 from= rcpt=args@x.example"
        assert await rcpt(client, "env-GATEPOST_MESSAGE_PATH") == "550 5.7.1 GATEPOST_MESSAGE_PATH=(unset)"
        assert await rcpt(client, "calls") == "550 5.7.1 11 calls, before="


@pytest.mark.parametrize(
    ("written", "passed"),
    [('"d d"@bobo.example', "d d@bobo.example"), ('"a;%s`"@bobo.example', "a;%s`@bobo.example"),
     ('"a@b"@bobo.example', "a@b@bobo.example"), ("jürgen@bücher.example", "jürgen@bücher.example"),
     ("a@[192.0.2.7]", "a@[192.0.2.7]")],
)  # fmt: skip
async def test_odd_addresses(telling, load, written, passed):
    async with Rig([await load(telling)]) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO c.example")
        utf8 = "" if written.isascii() else " SMTPUTF8"
        assert (await client.command(f"MAIL FROM:<{written}>{utf8}")).startswith("250")
        assert f"from={passed} rcpt=" in await rcpt(client, "args")


async def test_a_thousand_recipients(telling, load):
    async with Rig([await load(telling)]) as rig:
        client, _ = await mail(rig)
        for number in range(1000):
            assert (await rcpt(client, f"fine{number}")).startswith("250")
        await client.command("DATA")
        assert (await client.content(BODY)).startswith("250")


@pytest.mark.parametrize("protocol", ["lmtp", "prdr"])
async def test_a_refusal_for_one_recipient_is_said_to_that_one(telling, load, protocol):
    loaded = await load(telling, wishes=[Wish(("message",), rule="rcpt to=ann@x.example")])
    listen = [{"name": "in", "address": "127.0.0.1:0", "protocol": "lmtp" if protocol == "lmtp" else "smtp"}]
    async with Rig([loaded], settings=Settings.in_memory(hostname="mx.test", listen=listen)) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("LHLO c.example" if protocol == "lmtp" else "EHLO c.example")
        await client.command("MAIL FROM:<a@b.example>" + ("" if protocol == "lmtp" else " PRDR"))
        for local in ("bob", "ann"):
            await rcpt(client, local)
        await client.command("DATA")
        heard = [await client.content(SHOW)]
        if protocol == "prdr":
            assert heard.pop().startswith("353")
        heard += [await client.reply() for _ in range(2 - len(heard) + (protocol == "prdr"))]
        assert [one[:3] for one in heard] == ["250", "550"] + ["250"] * (protocol == "prdr")
        (entry,) = await rig.spool.entries()
        assert [one.local for one in entry.envelope.recipients] == ["bob"]


async def test_a_library_that_is_replaced_is_the_new_one_for_new_sessions(load, tmp_path):
    file = tmp_path / "plugin.so"
    old, new = order(tmp_path / "old.so", "old"), order(tmp_path / "new.so", "new")
    shutil.copy(old, file)
    async with Rig([await load(file)]) as rig:
        before, _ = await mail(rig)
        assert (await rcpt(before, "any")).startswith("550 5.7.1 by old")
        beside = tmp_path / "beside.so"
        shutil.copy(new, beside)
        beside.replace(file)
        assert (await rcpt(before, "any")).startswith("550 5.7.1 by old")
        after, _ = await mail(rig)
        assert (await rcpt(after, "any")).startswith("550 5.7.1 by new")
        file.unlink()
        gone, _ = await mail(rig)
        assert (await rcpt(gone, "any")).startswith(("451", "503"))
        assert (await rcpt(before, "any")).startswith("550 5.7.1 by old")


async def test_what_becomes_of_the_messages_file_is_nothing_to_us(load, tmp_path):
    """It is the plugin's own copy, which it may take away."""
    source = tmp_path / "takes.c"
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n"
        "int virusscan(char *file) { return remove(file) == 0 ? 0 : 9; }\n"
        "static int data(char *a, char *b, char *c, char *d, char **m) { (void)a; (void)b; (void)c; (void)d; (void)m;\n"
        '    return remove(getenv("GATEPOST_MESSAGE_PATH")) == 0 ? 0 : 1; }\n'
        "void *plugin_init(void) { static void *three[3]; three[2] = (void *)data; return three; }\n"
    )
    file = compiled(source, tmp_path / "takes.so")
    for abi in ("smtp", "queue"):
        for message in (BODY, BODY + b"0123456789\r\n" * 10_000):
            story = await try_plugin(await load(file, options=IndimailOptions(abi=abi)), message=message)
            assert story.accepted() and not story.errors
            assert story.content.endswith(message.partition(b"\r\n\r\n")[2])
