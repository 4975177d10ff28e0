"""IndiMail's plugins in the native host, asked by the real reception: what a client hears, and what becomes of mail."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from gatepost.hooks import stages
from gatepost.plugins.host import Backoff, Limits
from gatepost.plugins.indimail import IndimailOptions, load_indimail
from gatepost.plugins.loaded import PluginError, Wish
from gatepost.serving.house import Gate, OpenTo
from gatepost.testing import try_plugin
from gatepost.testing.rig import Rig
from native.indimail.compiling import EXAMPLES, compiled, order

pytestmark = pytest.mark.needs("cc")
MIB = 1024 * 1024
TOKEN = re.compile(r" \([0-9A-Z]{6}-[0-9A-Z]{6}\)")
SHOW = b"Subject: x\r\n\r\nSHOW\r\n"


@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    """The folder with telling.so, zoo.so and scan.so."""
    folder = tmp_path_factory.mktemp("indimail")
    for name in ("telling", "zoo"):
        compiled(name, folder / f"{name}.so")
    compiled("scan", folder / "scan.so", "OTHERWISE=0")
    return folder


@pytest.fixture
def load(tmp_path):
    """Loads in a hurry, with files of its own."""

    async def loaded(source, **more):
        return await load_indimail(source, **{"scratch": tmp_path, "backoff": Backoff(0.01, 1.0)} | more)

    return loaded


@asynccontextmanager
async def serving(*loaded, **more):
    async with Rig(loaded, **more) as rig:
        yield rig


async def mail(rig, sender="dave@bobo.example", ip="192.0.2.1", user=None):
    """A session behind its MAIL: the client, and what it heard."""
    client = rig.connect(ip)
    await client.reply()
    await client.command("EHLO c.example")
    rig.last_session.user = user
    return client, plain(await client.command(f"MAIL FROM:<{sender}>"))


async def rcpt(client, local):
    return plain(await client.command(f"RCPT TO:<{local}@x.example>"))


def plain(reply):
    """Without the session's token."""
    return TOKEN.sub("", reply)


async def refusal_of(rig, local, **more):
    client, _ = await mail(rig, **more)
    return await rcpt(client, local)


# ── what the client hears ──────────────────────────────────────────────────────────────────────────────────────────

SAID = [
    ("say-0", "550 5.7.1 with all (#5.7.1)"),
    ("say-1", "451 4.3.0 later (#4.3.0)"),
    ("say-2", "550 5.7.1 no line end"),
    ("say-3", "550 5.7.1 no code at all"),
    ("say-4", "550 5.7.1 no"),
    ("say-5", "550 5.7.1 refused"),
    ("say-6", "550 5.7.1 it says yes"),
    ("say-8", "550 5.7.9 own status"),
    ("say-9", "550-5.7.1 first\n550 5.7.1 second"),
    ("say-10", "550 5.7.1 no 250 2.0.0 injected"),
    ("say-11", "554 5.7.1 bell   and  [31m red"),
    ("say-12", "550 5.7.1 ?? no UTF-8"),
    ("say-13", "550 5.7.1 42 is no code"),
    ("say-14", "550 5.7.1 999 neither is this"),
    ("say-15", "551 5.7.1 refused"),
    ("unset", "550 5.7.1 rejected by plugin (#5.7.1)"),
    ("returns-2", "550 5.7.1 as it returned (#5.7.1)"),
    ("returns--1", "550 5.7.1 as it returned (#5.7.1)"),
    ("returns-0", "250 2.1.5 recipient ok"),
]


async def test_what_a_client_hears_of_each_mesg_and_the_session_stays_open(plugins, load):
    async with serving(await load(plugins / "telling.so")) as rig:
        client, heard = await mail(rig)
        assert heard == "250 2.1.0 sender ok"
        assert [(local, await rcpt(client, local)) for local, _ in SAID] == SAID
        assert (await rcpt(client, "long")).startswith("550 5.7.1 xxxxx")
        assert (await client.command("DATA")).startswith("354")
        assert (await client.content(b"Subject: x\r\n\r\nbody\r\n")).startswith("250")
        assert [entry.envelope.recipients[0].local for entry in await rig.spool.entries()] == ["returns-0"]


async def test_verbatim_leaves_the_text_as_it_is(plugins, load):
    async with serving(await load(plugins / "telling.so", wishes=[Wish(verbatim=True)])) as rig:
        client, _ = await mail(rig)
        for local, heard in (("say-2", "550 5.7.1 no line end"), ("say-9", "550-5.7.1 first\n550 5.7.1 second")):
            assert await client.command(f"RCPT TO:<{local}@x.example>") == heard


async def test_421_closes(plugins, load):
    async with serving(await load(plugins / "telling.so")) as rig:
        client, _ = await mail(rig)
        assert await rcpt(client, "say-7") == "421 4.7.1 go away"
        assert await client.reply() == ""


async def test_a_refused_sender_leaves_no_transaction(plugins, load):
    async with serving(await load(plugins / "telling.so")) as rig:
        client, heard = await mail(rig, "show@bobo.example")
        assert heard == "550 5.7.1 ip=192.0.2.1 from=show@bobo.example before="
        assert (await rcpt(client, "fine")).startswith("503")
        assert (await client.command("MAIL FROM:<>")).startswith("250")
        assert (await rcpt(client, "fine")).startswith("250")


async def test_data_func_hears_the_session_finds_the_message_and_ends_the_transaction(plugins, load):
    async with serving(
        await load(plugins / "telling.so"), dns={"192.0.2.1": "c.example", "c.example": "192.0.2.1"}
    ) as rig:
        client, _ = await mail(rig, "Dave@bobo.example")
        await rcpt(client, "fine")
        await client.command("DATA")
        assert plain(await client.content(SHOW)) == (
            "550 5.7.1 local=mx.test ip=192.0.2.1 host=c.example info=(null) from=Dave@bobo.example received=1"
        )
        assert (await rcpt(client, "fine")).startswith("503")
        assert await rig.spool.entries() == []


@pytest.mark.parametrize(
    ("options", "user", "info"),
    [
        (IndimailOptions(null_remoteinfo="empty"), None, ""),
        (IndimailOptions(null_remoteinfo="empty"), "ann", "ann"),
        (IndimailOptions(), "ann", "ann"),
    ],
)
async def test_remoteinfo(plugins, load, options, user, info):
    async with serving(await load(plugins / "telling.so", options=options)) as rig:
        client, _ = await mail(rig, user=user)
        await rcpt(client, "fine")
        await client.command("DATA")
        assert f"host=unknown info={info} from=" in await client.content(SHOW)


async def test_rcpt_func_hears_addresses_as_qmail_has_them(plugins, load):
    async with serving(await load(plugins / "telling.so")) as rig:
        client, _ = await mail(rig, '"d d"@Bobo.example', ip="2001:db8::1")
        heard = await client.command("RCPT TO:<args@X.Example>")
        assert plain(heard) == "550 5.7.1 ip=2001:db8::1 from=d d@Bobo.example rcpt=args@X.Example"


async def test_drop_on_reject_ends_the_session_at_the_next_command(plugins, load):
    async with serving(await load(plugins / "telling.so", options=IndimailOptions(drop_on_reject=True))) as rig:
        client, _ = await mail(rig)
        assert (await rcpt(client, "fine")).startswith("250")
        assert await rcpt(client, "say-1") == "451 4.3.0 later (#4.3.0)"
        assert (await client.command("NOOP")).startswith("421 4.7.0 closing the connection after the refusal")
        assert await client.reply() == ""
        client, _ = await mail(rig)
        await rcpt(client, "say-0")
        assert (await client.command("QUIT")).startswith("221")


# ── sessions ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_sessions_have_static_memory_of_their_own(plugins, load):
    async with serving(await load(plugins / "telling.so")) as rig:
        one, _ = await mail(rig, "one@bobo.example")
        two, _ = await mail(rig, "two@bobo.example")
        assert await rcpt(one, "calls") == "550 5.7.1 2 calls, before=one@bobo.example"
        assert await rcpt(two, "calls") == "550 5.7.1 2 calls, before=two@bobo.example"
        assert await rcpt(one, "calls") == "550 5.7.1 3 calls, before=one@bobo.example"


async def test_the_environment_is_there_at_plugin_init_and_refreshed_after_auth(plugins, load):
    async with serving(await load(plugins / "telling.so", env={"OWN": "own"})) as rig:
        client, _ = await mail(rig, ip="192.0.2.9")
        assert await rcpt(client, "init") == "550 5.7.1 init 192.0.2.9 own"
        for name, before, after in (
            ("RELAYCLIENT", "(unset)", ""),
            ("AUTHENTICATED", "(unset)", "1"),
            ("TCPREMOTEINFO", "(unset)", "ann"),
            ("OWN", "own", "own"),
            ("PROTO", "TCP", "TCP"),
            ("GATEPOST_MESSAGE_PATH", "(unset)", "(unset)"),
            ("PYTHONPATH", "(unset)", "(unset)"),
        ):
            rig.last_session.user = None
            assert await rcpt(client, f"env-{name}") == f"550 5.7.1 {name}={before}"
            rig.last_session.user = "ann"
            assert await rcpt(client, f"env-{name}") == f"550 5.7.1 {name}={after}"


async def test_it_is_not_asked_about_what_the_house_refuses(plugins, load):
    gates = (Gate("*@own.example", OpenTo.ANYONE),)
    async with serving(await load(plugins / "telling.so"), gates=gates) as rig:
        assert (await refusal_of(rig, "say-1")).startswith("550 5.7.1")
        assert not [
            one for one in rig.records.kinds("asked") if one["stage"] == "recipient" and one["plugin"] != "house"
        ]


async def test_every_call_is_heard_by_whoever_debugs(plugins, load):
    loaded = await load(plugins / "telling.so", name="telling")
    heard = []
    loaded.on_exchange = heard.append
    async with serving(loaded) as rig:
        client, _ = await mail(rig)
        for local in ("fine", "say-0"):
            await rcpt(client, local)
        await client.command("DATA")
        await client.content(SHOW)
    assert [(one.plugin, one.stage, one.passed.partition("(")[0]) for one in heard] == [
        ("telling", "sender", "mail_func"),
        ("telling", "recipient", "rcpt_func"),
        ("telling", "recipient", "rcpt_func"),
        ("telling", "message", "data_func"),
    ]
    assert [one.returned.partition(",")[0] for one in heard] == ["0", "0", "1", "1"]
    assert 'mesg = "550 with all (#5.7.1)\\r\\n", by ' in heard[2].returned
    assert heard[2].passed.startswith(
        'rcpt_func("192.0.2.1", "dave@bobo.example", "say-0@x.example", &mesg)\nPROTO=TCP\n'
    )
    assert "GATEPOST_MESSAGE_PATH=/" in heard[3].passed


# ── loading ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_stages_are_bound_that_some_plugin_has_a_function_for(load, tmp_path):
    for name, has in (("smtpd-plugin", 1), ("smtpd-plugin0", 4)):
        order(tmp_path / f"{name}.so", name, has)
    loaded = await load(tmp_path)
    assert {binding.stage for binding in loaded.bindings} == {stages.Sender, stages.Message}
    assert {binding.priority for binding in loaded.bindings} == {25000}
    assert [file.rpartition("/")[2] for file in loaded.files] == ["smtpd-plugin.so", "smtpd-plugin0.so"]
    await loaded.close()


async def test_wishes_win(plugins, load):
    loaded = await load(plugins / "telling.so", wishes=[Wish(("recipient",), priority=7, timeout=3.0)])
    assert [(one.stage, one.priority, one.timeout) for one in loaded.bindings] == [(stages.Recipient, 7, 3.0)]
    await loaded.close()
    with pytest.raises(PluginError, match="has nothing for the stage data; it has: message, recipient, sender"):
        await load(plugins / "telling.so", wishes=[Wish(("data",))])


async def test_a_folder_is_asked_in_the_order_of_loading(load, tmp_path):
    for number in ["", *range(11)]:
        order(tmp_path / f"X{number}.so", f"no{number}")
    async with serving(await load(tmp_path, env={"SMTP_PLUGIN": "X.so"})) as rig:
        client, _ = await mail(rig)
        heard = [await rcpt(client, local) for local in ("any", "no0", "no10", "no11")]
        assert heard[:3] == [f"550 5.7.1 by {name} (#5.7.1)" for name in ("no", "no0", "no10")]
        assert heard[3].startswith("250")


async def test_plugindir_is_where_a_folder_loads_from_and_is_told(plugins, load, tmp_path):
    order(tmp_path / "smtpd-plugin.so", "a")
    compiled("telling", tmp_path / "smtpd-plugin0.so")
    async with serving(await load(plugins, env={"PLUGINDIR": str(tmp_path)})) as rig:
        assert await refusal_of(rig, "env-PLUGINDIR") == f"550 5.7.1 PLUGINDIR={tmp_path}"
        assert await refusal_of(rig, "any") == "550 5.7.1 by a (#5.7.1)"


async def test_disable_plugin(plugins, load):
    loaded = await load(plugins / "telling.so", env={"DISABLE_PLUGIN": "1"}, wishes=[Wish(("recipient",))])
    assert loaded.bindings == []
    async with serving(loaded) as rig:
        assert (await refusal_of(rig, "unset")).startswith("250")


async def test_what_cannot_be_loaded_is_refused_by_name(plugins, load, tmp_path):
    order(tmp_path / "none.so", "a", has=0)
    (tmp_path / "empty").mkdir()
    few = Limits(open_files=20)
    for source, more, words in (
        (tmp_path / "missing.so", {}, 'there is no "'),
        (tmp_path / "none.so", {}, 'plugin "none": none of its functions is there'),
        (tmp_path / "empty", {}, "has neither smtpd-plugin.so nor smtpd-plugin0.so"),
        (tmp_path, {"env": {"PLUGINDIR": "relative"}}, "PLUGINDIR is an absolute path"),
        (tmp_path, {"env": {"PLUGINDIR": "/nowhere"}}, "where there is no folder"),
        (tmp_path, {"env": {"SMTP_PLUGIN": "a/b.so"}}, "SMTP_PLUGIN is the name of a file"),
        (
            plugins / "zoo.so",
            {"env": {"ZOO": "null"}},
            'plugin "zoo" can\'t be loaded: plugin_init of .* returned NULL',
        ),
        (plugins / "zoo.so", {"env": {"ZOO": "segfaults"}}, "was ended by SIGSEGV"),
        (plugins / "zoo.so", {"env": {"ZOO": "hangs"}, "load_s": 1.0}, "wasn't ready after 1 s"),
        (plugins / "zoo.so", {"env": {"SMTP_PLUGIN_SYMB": "x"}}, "has no function x"),
        (plugins / "zoo.so", {"processes": 0}, "between 1 and 1000"),
        (plugins / "zoo.so", {"limits": few}, "limits.files = 20 is too few for 50 sessions"),
    ):
        with pytest.raises(PluginError, match=words):
            await load(source, **more)
    await (await load(plugins / "zoo.so", limits=few, processes=4)).close()


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "animal", ["segfaults", "exits", "wild-mesg", "closes", "writes", "eats", "hangs", "prints", "stops"]
)
async def test_an_animal_fails_its_own_session_only(plugins, load, animal):
    loaded = await load(
        plugins / "zoo.so", wishes=[Wish(timeout=1.0)], limits=Limits(address_space=256 * MIB), grace_s=10.0
    )
    async with serving(loaded) as rig:
        innocent, _ = await mail(rig)
        bad, _ = await mail(rig)
        assert (await rcpt(innocent, "fine")).startswith("250")
        host = loaded.crew.hosts[0].pid
        heard, no = await asyncio.gather(rcpt(bad, animal), rcpt(innocent, "no"))
        assert heard == "451 4.3.0 a check couldn't be made, try again later"
        assert no == "550 5.7.1 not by the zoo (#5.7.1)"
        assert await rcpt(bad, "no") == "550 5.7.1 not by the zoo (#5.7.1)"
        assert (await rcpt(bad, "fine")).startswith("250")
        assert loaded.crew.hosts[0].pid == host  # which no animal has reached


async def test_on_failure_decides(plugins, load):
    async with serving(await load(plugins / "zoo.so", wishes=[Wish(on_failure="proceed")])) as rig:
        assert (await refusal_of(rig, "segfaults")).startswith("250")
        assert "was ended by SIGSEGV" in str(rig.records.errors[0][2])


async def test_a_plugin_that_cannot_begin_a_session_fails_its_questions(plugins, load):
    async with serving(await load(plugins / "zoo.so", env={"ZOO": "exits-3", "ZOO_LATER": "1"})) as rig:
        assert (await refusal_of(rig, "fine")).startswith("451 4.3.0")
        assert "exited with status 3" in str(rig.records.errors[0][2])


async def test_who_gets_no_process_in_time_is_asked_to_come_again(plugins, load):
    async with serving(await load(plugins / "zoo.so", processes=1, wishes=[Wish(timeout=0.5)])) as rig:
        first, _ = await mail(rig)
        assert (await rcpt(first, "fine")).startswith("250")
        second, _ = await mail(rig)
        assert (await rcpt(second, "fine")).startswith("451 4.3.0")
        assert (await rcpt(first, "no")).startswith("550")
        assert (await first.command("QUIT")).startswith("221")
        assert (await rcpt(second, "no")).startswith("550")


async def test_fifty_sessions_with_animals_among_them_are_all_answered(plugins, load):
    loaded = await load(plugins / "zoo.so", processes=8, wishes=[Wish(timeout=20.0)], grace_s=20.0)
    animals = ("segfaults", "exits", "aborts", "writes", "wild-mesg")

    async def talk(rig, number):
        client, _ = await mail(rig)
        heard = [await rcpt(client, "fine"), await rcpt(client, "no")]
        if number % 10 == 0:
            heard.append(await rcpt(client, animals[number // 10]))
        await client.command("QUIT")
        return [one[:3] for one in heard]

    async with serving(loaded) as rig:
        heard = await asyncio.gather(*(talk(rig, number) for number in range(50)))
        assert heard == [["250", "550", "451"] if number % 10 == 0 else ["250", "550"] for number in range(50)]


# ── queue plugins ──────────────────────────────────────────────────────────────────────────────────────────────────

QUEUE = IndimailOptions(abi="queue")


async def scanned(load, source, body, **env):
    """The story of a message, scanned."""
    loaded = await load(source, options=QUEUE, env=env)
    assert [binding.stage for binding in loaded.bindings] == [stages.Message]
    return await try_plugin(loaded, message=f"Subject: x\n\n{body}\n")


async def test_a_scan_adds_its_header_and_may_refuse_discard_or_fail(plugins, load):
    file = plugins / "scan.so"
    assert b"\r\nX-QHPSI: clean\r\n" in (await scanned(load, file, "nothing")).content
    assert b"\r\nX-QHPSI: Virus found\r\n" in (await scanned(load, file, "RESULT 1")).content
    story = await scanned(load, file, "RESULT 1", REJECTVIRUS="1")
    assert story.content is None and plain(story.reply) == "554 5.7.1 the message is infected with a virus"
    story = await scanned(load, file, "RESULT 1", REJECTVIRUS="2")
    assert story.content is None and story.accepted()
    assert plain((await scanned(load, file, "RESULT 5")).reply).startswith("451 4.3.0 the message couldn't be scanned")
    assert b"X-QHPSI" not in (await scanned(load, file, "RESULT 1", QHPSIMINSIZE="9999", REJECTVIRUS="1")).content


async def test_a_folder_of_scanners_is_asked_as_qhpsi_says(plugins, load, tmp_path):
    compiled("scan", tmp_path / "a.so", "OTHERWISE=0")
    compiled("scan", tmp_path / "b.so", "OTHERWISE=1")
    story = await scanned(load, tmp_path, "nothing", QHPSI="plugin: a.so b.so", REJECTVIRUS="1")
    assert story.refused(554)
    with pytest.raises(PluginError, match="QHPSI isn't set"):
        await load(tmp_path, options=QUEUE)
    with pytest.raises(PluginError, match="has no function virusscan"):
        await load(plugins / "zoo.so", options=QUEUE)


# ── the example ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_man_pages_refuser(load, tmp_path):
    file = compiled(EXAMPLES / "indimail_refuser.c", tmp_path / "indimail_refuser.so")
    story = await try_plugin(await load(file), to=["ann@example.org", "bob@yahoo.com"])
    assert plain(story.reply) == "530 5.7.1 We are serious and don't Yahoo (#5.7.1)"
    assert story.accepted("ann@example.org") and not story.accepted("bob@yahoo.com")
