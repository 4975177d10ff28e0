"""MailEnable plugins that treat their files roughly; odd envelopes; several plugins for one message."""

import asyncio
import gc
import os

import pytest

from gatepost import on, refuse
from gatepost.app.settings.root import Settings
from gatepost.plugins.loaded import Wish
from gatepost.plugins.python import load as load_python
from gatepost.testing import try_plugin
from gatepost.testing.rig import Rig
from gatepost.testing.trying import MESSAGE
from native.mailenable.conftest import HERE
from native.mailenable.test_mailenable_calls import ACCEPTED, OKS, TAG, told
from native.mailenable.test_mailenable_failures import FAILED, begun

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]


@pytest.fixture
def rough(load, compiled):
    """Called with what `load_mailenable` takes: the plugin of rough.c."""

    async def loaded(**more):
        return await load("so", compiled(HERE / "rough.c", "so", "-D_GNU_SOURCE"), **more)

    return loaded


@pytest.mark.parametrize("way", ["fifo", "folder", "symlink", "hardlink"])
async def test_what_is_no_file_of_its_own_any_more_is_a_failure(rough, way):
    plugin = await rough()
    async with Rig([plugin]) as rig:
        talk = await begun(rig)
        await talk.hear("x")
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(3):
            assert told((await talk.hear(f"rough-{way}"))[-1]) == FAILED
        assert set(os.listdir("/proc/self/fd")) == before
        assert [told(reply) for reply in await talk.hear("x")] == [*OKS, ACCEPTED]
        assert len(await rig.spool.entries()) == 2


async def test_an_edit_by_memory_is_one(rough):
    """In place, of the same length, by a map: the file's time may not tell."""
    story = await try_plugin(await rough(), helo="rough-memory.example")
    assert b"Subject: HELLO\r\n" in story.content


@pytest.mark.parametrize("size", [1, 100_000])
async def test_who_removes_the_folder_of_its_files_fails_alone(rough, size):
    plugin = await rough(wishes=[Wish(timeout="10s")])
    content = MESSAGE + b"0123456789\r\n" * (size // 12)
    async with Rig([plugin]) as rig:
        talk = await begun(rig)
        assert told((await talk.hear("rough-homeless", content=content))[-1]) == FAILED
        for _ in range(2):
            assert [told(reply) for reply in await talk.hear("x", content=content)] == [*OKS, ACCEPTED]


async def test_a_thousand_recipients(rough):
    recipients = [f"RCPT TO:<{'recipient' * 6}{number:04}@example.org>" for number in range(1000)]
    async with Rig([await rough()]) as rig:
        talk = await begun(rig)
        heard = await talk.hear("length", recipients=recipients)
        octets = [int(reply.split()[2]) for reply in heard[1:1001]]
        assert octets[-1] > 64 * 1024
        assert octets == sorted(octets)
        assert "octets" in heard[-1]
        assert len((await rig.spool.entries())[0].envelope.recipients) == 1000


@pytest.mark.parametrize(
    "local", ['"a b"', '"a;b"', '"a]; [SMTP:x"', '"a@b"', "o'neill+tag", "%s%n", '"<b>"', "jürgen", "-rf", '"a\\\\b"']
)
async def test_odd_addresses_reach_it_whole(rough, local):
    async with Rig([await rough()]) as rig:
        talk = await begun(rig)
        address = f"{local}@example.org"
        heard = await talk.hear(
            "all",
            sender=f"MAIL FROM:<{address}>{'' if address.isascii() else ' SMTPUTF8'}",
            recipients=[f"RCPT TO:<{address}>", "RCPT TO:<bob@example.org>"],
        )
        passed = address.replace("<", "&lt;").replace(">", "&gt;")
        assert told(heard[-1]) == f"250 2.0.0 [SMTP:{passed}] to [SMTP:{passed}]; [SMTP:bob@example.org]"


async def test_each_transaction_has_its_own_envelope_and_rset_forgets_one(rough):
    async with Rig([await rough()]) as rig:
        talk = await begun(rig)
        client = talk.client
        for line in ("EHLO all.example", "MAIL FROM:<one@bobo.example>", "RCPT TO:<one@example.org>", "RSET"):
            await client.command(line)
        assert await client.command("MAIL FROM:<two@bobo.example>") == "250 2.1.0 [SMTP:two@bobo.example] to"
        heard = await client.command("RCPT TO:<two@example.org>")
        assert heard == "250 2.1.5 [SMTP:two@bobo.example] to [SMTP:two@example.org]"
        await client.command("DATA")
        assert "to [SMTP:two@example.org], " in await client.content(MESSAGE)
        heard = await talk.hear("all", sender="MAIL FROM:<>", recipients=["RCPT TO:<three@example.org>"])
        assert told(heard[-1]) == "250 2.0.0 to [SMTP:three@example.org]"


@pytest.mark.parametrize("way", ["lmtp", "prdr"])
async def test_a_rule_that_concerns_one_recipient_refuses_that_one_only(rough, way):
    plugin = await rough(wishes=[Wish(("message",), rule="rcpt to=ann@example.org")])
    protocol = "lmtp" if way == "lmtp" else "smtp"
    settings = Settings.in_memory(
        hostname="mx.test", listen=[{"name": "in", "address": "127.0.0.1:0", "protocol": protocol}]
    )
    async with Rig([plugin], settings=settings) as rig:
        client = rig.connect()
        await client.reply()
        await client.command(f"{'LHLO' if way == 'lmtp' else 'EHLO'} refuse.example")
        assert (await client.command(f"MAIL FROM:<a@b.example>{' PRDR' if way == 'prdr' else ''}"))[:3] == "250"
        for local in ("ann", "bob", "carl"):
            assert (await client.command(f"RCPT TO:<{local}@example.org>"))[:3] == "250"
        await client.command("DATA")
        heard = [await client.content(MESSAGE)]
        if way == "prdr":
            assert heard.pop()[:3] == "353"
        while len(heard) < 3 + (way == "prdr"):
            heard.append(await client.reply())
        assert [reply[:3] for reply in heard] == ["554", "250", "250"] + (["250"] if way == "prdr" else [])
        (entry,) = await rig.spool.entries()
        assert sorted(one.local for one in entry.envelope.recipients) == ["bob", "carl"]


def tag(number):
    @on("message", priority=number)
    async def tags(event):
        event.add_header(f"X-Number-{number}", "yes")

    return load_python(tags, name=f"tag{number}")


async def test_each_sees_what_the_one_before_has_written(load):
    """postman.c puts its field behind the last one, whosever that is."""
    writers = [await load("so", name=f"w{n}", wishes=[Wish(("message",), priority=n)]) for n in (2, 4)]
    async with Rig([tag(1), writers[0], tag(3), writers[1], tag(5)]) as rig:
        assert told((await (await begun(rig)).hear("dataend-rewrite"))[-1]) == ACCEPTED
        (entry,) = await rig.spool.entries()
        head, _, body = entry.content.read().partition(b"\r\n\r\n")
        fields = head.split(b"\r\n")[-5:]
        assert fields == [b"X-Number-1: yes", TAG.strip(), b"X-Number-3: yes", TAG.strip(), b"X-Number-5: yes"]
        assert body == b"Hello Ann.\r\n"


@pytest.mark.parametrize(("policy", "held"), [("proceed", None), ("quarantine", "third failed")])
async def test_of_three_the_last_leaves_half_a_file_and_the_others_changes_stay(load, rough, policy, held):
    second = await load("so", wishes=[Wish(("message",), priority=2)])
    third = await rough(name="third", env={"ROUGH": "half"}, wishes=[Wish(("message",), priority=3, on_failure=policy)])
    async with Rig([tag(1), second, third]) as rig:
        assert told((await (await begun(rig)).hear("dataend-rewrite"))[-1])[:3] == "250"
        (entry,) = await rig.spool.entries()
        assert entry.held == held
        assert entry.content.read().endswith(b"X-Number-1: yes\r\n" + TAG + b"\r\nHello Ann.\r\n")


@pytest.mark.parametrize("way", ["close", "leave"])
async def test_who_hangs_while_the_server_stops_is_ended(rough, tmp_path, way):
    plugin = await rough(stop_s=0.2, wishes=[Wish(timeout="60s")])
    rig = Rig([plugin])
    await rig.open()
    talk = await begun(rig)
    asking = asyncio.create_task(talk.hear("rough-hang"))
    while not any(question.content for question in plugin.crew.hosts[0]._in_flight.values()):
        await asyncio.sleep(0)
    pid = plugin.crew.hosts[0].pid
    if way == "leave":
        talk.client.line.lose()
    await rig.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await asking
    assert await rig.spool.entries() == []
    assert [one for one in tmp_path.glob("gatepost-*")] == []


async def test_a_shadow_that_rewrites_changes_nothing_and_leaves_nothing(load, tmp_path):
    """Its answer comes when the transaction is over."""
    large = MESSAGE + b"0123456789\r\n" * 20_000
    plugin = await load("so", wishes=[Wish(("message",), shadow=True)])
    async with Rig([plugin]) as rig:
        talk = await begun(rig)
        for _ in range(3):
            assert told((await talk.hear("dataend-rewrite", content=large))[-1]) == ACCEPTED
        await talk.client.command("QUIT")
        await rig.settled()
        assert not rig.records.errors
        assert [TAG in entry.content.read() for entry in await rig.spool.entries()] == [False] * 3
        shadows = [facts for facts in rig.records.kinds("asked") if facts.get("shadow")]
        assert ["+ X-ME-Content: Deliver-To=Junk" in str(facts.get("edits")) for facts in shadows] == [True] * 3
        gc.collect()
        left = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert left == []


async def test_a_shadow_is_asked_though_somebody_refuses_at_once(load):
    @on("message", priority=25001)
    async def no(event):
        return refuse("no")

    plugin = await load("so", wishes=[Wish(("message",), shadow=True)])
    async with Rig([plugin, load_python(no, name="no")]) as rig:
        talk = await begun(rig)
        assert (await talk.hear("dataend-refuse"))[-1].startswith("554")
        await talk.client.command("QUIT")
        await rig.settled()
        assert rig.records.errors == []


@pytest.mark.parametrize("content", [b"", b"\r\n", b"x" * 900 + b"\r\n"])
async def test_messages_without_header_or_body(load, content):
    async with Rig([await load("so")]) as rig:
        talk = await begun(rig)
        for wish in ("dataend-size", "dataend-same"):
            assert told((await talk.hear(wish, content=content))[-1])[:3] == "250"
        for entry in await rig.spool.entries():
            assert entry.content.read().startswith(b"Received: ")


async def test_forty_megabytes_are_rewritten(load):
    large = MESSAGE + b"a line of seventy octets or so, and very many of them follow it here\r\n" * 580_000
    async with Rig([await load("so")]) as rig:
        talk = await begun(rig)
        assert told((await talk.hear("dataend-rewrite", content=large))[-1]) == ACCEPTED
        (entry,) = await rig.spool.entries()
        assert entry.content.size > len(large) and TAG in entry.content.read(0, 2000)


async def test_a_library_that_is_replaced_is_the_new_one_from_its_next_process_on(load, compiled, tmp_path):
    old, new = (compiled(HERE / "rough.c", "so", "-D_GNU_SOURCE", f'-DCALLED="{name}"') for name in ("old", "new"))
    library = tmp_path / "beside" / "plugin.so"
    library.parent.mkdir()
    library.write_bytes(old.read_bytes())
    plugin = await load("so", library, wishes=[Wish(timeout="20s")])
    async with Rig([plugin]) as rig:
        talk = await begun(rig)
        assert (await talk.hear("called"))[0] == "250 2.1.0 old"
        replaced = library.with_name("new.so")
        replaced.write_bytes(new.read_bytes())
        replaced.replace(library)
        assert (await talk.hear("called"))[0] == "250 2.1.0 old"
        os.kill(plugin.crew.hosts[0].pid, 9)
        await asyncio.sleep(0)
        assert (await talk.hear("called"))[0] == "250 2.1.0 new"


async def test_two_plugins_of_one_file_are_two(load):
    one = await load("so", name="one", env={"FLAVOUR": "one"}, wishes=[Wish(("sender",))])
    two = await load("so", name="two", env={"FLAVOUR": "two"}, wishes=[Wish(("recipient",))])
    async with Rig([one, two]) as rig:
        talk = await begun(rig)
        assert (await talk.hear("mailfrom-env"))[0] == "250 2.1.0 one and none"
        assert (await talk.hear("rcptto-env"))[1] == "250 2.1.5 two and none"
        assert (await talk.hear("mailfrom-crash"))[0][:3] == "451"
        assert (await talk.hear("rcptto-env"))[1] == "250 2.1.5 two and none"


@pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64")
async def test_a_dll_and_a_shared_object_change_one_message(load):
    """The same source, twice; each finds what the other has written."""
    dll = await load("dll", name="dll", wishes=[Wish(("message",), priority=1)])
    so = await load("so", name="so", wishes=[Wish(("message",), priority=3)])
    async with Rig([dll, tag(2), so]) as rig:
        assert told((await (await begun(rig)).hear("dataend-rewrite"))[-1]) == ACCEPTED
        (entry,) = await rig.spool.entries()
        assert entry.content.read().endswith(TAG + b"X-Number-2: yes\r\n" + TAG + b"\r\nHello Ann.\r\n")
