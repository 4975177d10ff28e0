"""A MailEnable plugin, as a shared object and as an unmodified DLL, through the whole reception: what the client hears
and what is stored. `postman.c` does at one command what the client's name says.
"""

import asyncio
import re
from pathlib import Path

import pytest

from gatepost.plugins.loaded import Wish
from gatepost.testing import try_plugin
from gatepost.testing.rig import Rig
from gatepost.testing.trying import MESSAGE
from native.mailenable.conftest import KINDS

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a first prefix takes its time
TAG = b"X-ME-Content: Deliver-To=Junk\r\n"
FROM, TO = "MAIL FROM:<dave@bobo.example>", "RCPT TO:<ann@example.org>"


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


class Talk:
    """One session with the plugin."""

    def __init__(self, rig):
        self.client = rig.connect()

    async def hear(self, wish, *, sender=FROM, recipients=(TO,), content=MESSAGE):
        """The replies to MAIL, each RCPT, DATA and the content, as far as they are positive."""
        await self.client.command(f"EHLO {wish}.example")
        heard = []
        for line in (sender, *recipients, "DATA"):
            heard.append(await self.client.command(line))
            if heard[-1][0] in "45":
                await self.client.command("RSET")
                return heard
        heard.append(await self.client.content(content))
        return heard


TOKEN = re.compile(r"(?: \([0-9A-Z]{6}-[0-9A-Z]{6}\)|, [0-9A-Z]{6}-[0-9A-Z]{6}-\d+)$")


def told(reply):
    """A reply without the token or ticket at its end."""
    return TOKEN.sub("", reply)


OKS = ["250 2.1.0 sender ok", "250 2.1.5 recipient ok", "354 send the message, end with a line that is a single dot"]
ACCEPTED = "250 2.0.0 accepted"
AT = {"mailfrom": 0, "rcptto": 1, "data": 2, "dataend": 3}
HEARD = {
    "refuse": "550 5.7.1 no thanks",
    "later": "451 4.7.1 come later",
    "bare": "550 5.7.1 rejected by plugin",
    "silent": "550 5.7.1 rejected by plugin",
    "words": "550 5.7.1 rejected by plugin",
    "crlf0": "550 5.7.1 no 250 yes 221 bye",
}
SAID = {  # by what follows code and status
    "none": None,
    "empty": None,
    "two": None,
    "minus": None,
    "say": "glad to",
    "crlf": "glad 550 not to",
}


async def test_every_answer_at_every_command(kind, load):
    async with Rig([await load(kind)]) as rig:
        talk = Talk(rig)
        await talk.client.reply()
        for command, at in AT.items():
            for wish, reply in HEARD.items():
                heard = await talk.hear(f"{command}-{wish}")
                assert len(heard) == at + 1, (command, wish)
                assert told(heard[-1]) == reply, (command, wish)
                assert heard[:-1] == OKS[:at]
            for wish, text in SAID.items():
                heard = await talk.hear(f"{command}-{wish}")
                expected = [*OKS, ACCEPTED]
                if text is not None and command != "data":
                    expected[at] = f"{expected[at][:9]} {text}"
                assert [*heard[:3], told(heard[3])] == expected, (command, wish)
        assert not rig.records.errors


async def test_what_is_refused_at_DATA_gets_no_354_and_leaves_the_session_well(kind, load):
    async with Rig([await load(kind)]) as rig:
        talk = Talk(rig)
        await talk.client.reply()
        assert (await talk.hear("data-refuse"))[-1].startswith("550 5.7.1 no thanks (")
        assert (await talk.hear("x"))[2:3] == OKS[2:]


async def test_421_closes(kind, load):
    async with Rig([await load(kind)]) as rig:
        talk = Talk(rig)
        await talk.client.reply()
        await talk.client.command("EHLO rcptto-close.example")
        await talk.client.command(FROM)
        assert (await talk.client.command(TO)).startswith("421 4.7.0 going away (")
        assert await talk.client.reply() == ""


async def test_an_overlong_or_unterminated_text_is_cut_to_a_line(kind, load):
    plugin = await load(kind)
    async with Rig([plugin]) as rig:
        talk = Talk(rig)
        await talk.client.reply()
        (refused,) = await talk.hear("mailfrom-long")
        assert refused.startswith("550 5.7.1 xxxx") and refused.endswith(")")
        assert len(refused) <= 510
        heard = await talk.hear("mailfrom-unterminated")
        assert heard[0].startswith("250 2.1.0 xxxx") and len(heard[0]) <= 510
        assert heard[1:3] == OKS[1:]


async def test_a_success_with_a_refusals_text_goes_by_on_failure(kind, load):
    for policy, expected in (("tempfail", "451 4.3.0"), ("proceed", "250 2.1.5"), ("refuse", "550 5.7.1")):
        plugin = await load(kind, wishes=[Wish(on_failure=policy)])
        story = await try_plugin(plugin, helo="rcptto-contradict.example")
        assert story.replies[3][1].startswith(expected)
        assert "which is success, with" in str(story.errors[0])


async def test_the_message_is_a_closed_file_with_our_received_in_it(kind, load):
    story = await try_plugin(await load(kind), helo="dataend-size.example")
    said = story.replies[5][1]
    assert said.startswith(f"250 2.0.0 {len(story.content)} octets, Received first: 1, ")
    assert story.accepted() and story.content.endswith(MESSAGE)


@pytest.mark.parametrize("way", ["rewrite", "recreate", "rename"])
async def test_what_the_plugin_writes_is_what_is_accepted(kind, load, way):
    plugin = await load(kind)
    story = await try_plugin(plugin, helo=f"dataend-{way}.example")
    assert told(story.replies[5][1]) == ACCEPTED
    head, _, body = story.content.partition(b"\r\n\r\n")
    assert (head + b"\r\n").endswith(b"Message-ID: <1@bobo.example>\r\n" + TAG)
    assert head.startswith(b"Received: ") and body == b"Hello Ann.\r\n"
    assert "+ X-ME-Content: Deliver-To=Junk" in str(story.asked[-1]["edits"])


async def test_large_content_is_rewritten_too(kind, load):
    body = b"a line of seventy octets or so, and many thousands of them follow it\r\n" * 30_000
    story = await try_plugin(await load(kind), helo="dataend-rewrite.example", message=MESSAGE + body)
    assert story.content.count(TAG) == 1
    assert story.content.endswith(MESSAGE[-12:] + body)


async def test_a_file_that_is_written_again_as_it_was_is_no_change(kind, load):
    story = await try_plugin(await load(kind), helo="dataend-same.example")
    assert story.accepted() and story.content.endswith(MESSAGE)
    assert "edits" not in story.asked[-1]


async def test_what_is_refused_is_not_rewritten(kind, load):
    story = await try_plugin(await load(kind), helo="dataend-rewrite0.example")
    assert story.reply.startswith("554 5.6.0 tagged, and then refused (")
    assert story.content is None
    assert "edits" not in story.asked[-1]


async def test_a_message_that_has_grown_beyond_the_limit_is_refused(kind, load):
    plugin = await load(kind, message_size=100_000)
    story = await try_plugin(plugin, helo="dataend-grow.example")
    assert story.reply.startswith("552 5.3.4 ")
    assert (await try_plugin(await load(kind), helo="dataend-grow.example")).accepted()


@pytest.mark.parametrize("way", ["delete", "blank", "half"])
async def test_nothing_half_is_ever_accepted(kind, load, way):
    """Deleted, left empty, or written up to a crash: a failure, and nothing of it is in the message."""
    story = await try_plugin(await load(kind), helo=f"dataend-{way}.example")
    assert story.reply.startswith("451 4.3.0 ")
    assert story.content is None
    passed = await try_plugin(await load(kind, wishes=[Wish(on_failure="proceed")]), helo=f"dataend-{way}.example")
    assert passed.accepted() and passed.content.endswith(MESSAGE) and TAG not in passed.content


async def test_the_sender_as_it_is_and_empty_for_a_bounce(kind, load):
    async with Rig([await load(kind)]) as rig:
        talk = Talk(rig)
        await talk.client.reply()
        heard = await talk.hear("mailfrom-sender")
        assert heard[0] == "250 2.1.0 sender [SMTP:dave@bobo.example] ndr 0 for"
        heard = await talk.hear("rcptto-sender", sender="MAIL FROM:<>")
        assert heard[1] == "250 2.1.5 sender  ndr 1 for example.org"
        heard = await talk.hear("rcptto-sender", sender='MAIL FROM:<"a <b> & c"@bobo.example>')
        assert heard[1].startswith('250 2.1.5 sender [SMTP:"a &lt;b&gt; &amp; c"@bobo.example] ndr 0')


async def test_international_addresses_come_in_the_charset_that_is_set(kind, load):
    for charset, expected in (("utf-8", "jürgen"), ("cp1252", "jürgen"), ("cp1251", "j?rgen")):
        async with Rig([await load(kind, options={"charset": charset})]) as rig:
            talk = Talk(rig)
            await talk.client.reply()
            heard = await talk.hear("mailfrom-sender", sender="MAIL FROM:<jürgen@bücher.example> SMTPUTF8")
            assert heard[0] == f"250 2.1.0 sender [SMTP:{expected}@xn--bcher-kva.example] ndr 0 for"


async def test_an_address_with_octets_that_are_no_text_never_reaches_it(kind, load):
    async with Rig([await load(kind)]) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO mailfrom-refuse.example")
        client.send(b"MAIL FROM:<j\xfcrgen@bobo.example>\r\n")
        assert (await client.reply())[0] == "5"
        assert not rig.records.kinds("asked")


async def test_recipients_with_the_current_one(kind, load):
    async with Rig([await load(kind)]) as rig:
        talk = Talk(rig)
        await talk.client.reply()
        heard = await talk.hear("rcptto-recipients", recipients=(TO, "RCPT TO:<bob@example.org>"))
        assert heard[1] == "250 2.1.5 ann@example.org of [SMTP:ann@example.org]"
        assert heard[2] == "250 2.1.5 bob@example.org of [SMTP:ann@example.org]; [SMTP:bob@example.org]"


async def test_an_authenticated_sender_is_known_as_one(kind, load):
    story = await try_plugin(await load(kind), helo="dataend-auth.example", user="ann@example.org")
    assert told(story.replies[5][1]) == "250 2.0.0 senderauth 1 user ann@example.org"


async def test_it_has_the_environment_that_is_set_and_not_the_servers_secrets(kind, load):
    story = await try_plugin(await load(kind, env={"FLAVOUR": "vanilla"}), helo="rcptto-env.example")
    assert story.replies[3][1] == "250 2.1.5 vanilla and none"


async def test_files_beside_it_are_in_its_working_folder(kind, load):
    plugin = await load(kind)
    (Path(plugin.source).parent / "beside.txt").write_text("here I am")
    story = await try_plugin(plugin, helo="rcptto-beside.example")
    assert story.replies[3][1] == "250 2.1.5 here I am"


async def test_routing_headers_from_outside_are_gone_and_the_plugins_own_stay(kind, load):
    forged = b"X-ME-Content: Deliver-To=VIP\r\nx-me-spam: Low\r\nX-ME-Sender: <fastmail>\r\n" + MESSAGE
    story = await try_plugin(await load(kind), helo="dataend-rewrite.example", message=forged)
    assert story.content.count(b"X-ME-Content") == 1 and TAG in story.content
    assert b"x-me-spam" not in story.content and b"X-ME-Sender: <fastmail>\r\n" in story.content
    kept = await try_plugin(await load(kind, options={"strip_routing_headers": False}), message=forged)
    assert b"Deliver-To=VIP\r\n" in kept.content
    shadow = await try_plugin(await load(kind, wishes=[Wish(shadow=True)]), message=forged)
    assert b"Deliver-To=VIP\r\n" in shadow.content


async def test_who_debugs_a_plugin_sees_what_was_passed_and_what_came_back(kind, load):
    plugin, calls = await load(kind), []
    plugin.on_exchange = calls.append
    async with Rig([plugin]) as rig:
        talk = Talk(rig)
        await talk.client.reply()
        await talk.hear("dataend-refuse")
        asked = rig.records.kinds("asked")
    assert [one.stage for one in calls] == ["sender", "recipient", "data", "message"]
    assert {one.plugin for one in calls} == {"postman"}
    path = calls[3].passed.partition("<messagepath>")[2].partition("</messagepath>")[0]
    assert path.endswith(".MAI") and path.startswith("Z:\\" if kind == "dll" else "/")
    assert calls[0].returned == "1, response untouched"
    assert calls[3].returned == "0, response '550 5.7.1 no thanks'"
    notes = [facts["notes"]["execute"] for facts in asked if facts["stage"] != "headers"]
    assert notes == ["→ 1, text untouched"] * 3 + ['→ 0, "550 5.7.1 no thanks"']


async def test_only_the_stages_and_recipients_that_are_wished_for(kind, load):
    plugin, calls = await load(kind, wishes=[Wish(stages=("recipient",), rule="rcpt to=*@example.org")]), []
    plugin.on_exchange = calls.append
    assert [binding.stage.name for binding in plugin.bindings] == ["recipient"]
    async with Rig([plugin]) as rig:
        talk = Talk(rig)
        await talk.client.reply()
        heard = await talk.hear("rcptto-refuse", recipients=("RCPT TO:<a@elsewhere.example>", TO))
    assert [reply[:3] for reply in heard] == ["250", "250", "550"]
    assert len(calls) == 1


async def test_fifty_sessions_at_once(kind, load):
    plugin = await load(kind, processes=2)
    async with Rig([plugin]) as rig:

        async def story(number):
            talk = Talk(rig)
            await talk.client.reply()
            wish = ("rcptto-refuse", "dataend-rewrite", "dataend-refuse", "x")[number % 4]
            return [(await talk.hear(wish))[-1][:9] for _ in range(4)]

        heard = await asyncio.gather(*(story(number) for number in range(50)))
        expected = ("550 5.7.1", "250 2.0.0", "550 5.7.1", "250 2.0.0")
        assert heard == [[expected[number % 4]] * 4 for number in range(50)]
        stored = [entry.content.read() for entry in await rig.spool.entries()]
        assert sum(TAG in content for content in stored) == 52
        assert len(stored) == 100
        assert len({host.pid for host in plugin.crew.hosts}) == 2
        assert not rig.records.errors
