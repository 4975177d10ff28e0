"""What plugins see and change on the way out, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from gatepost import fail, on, per_session, send_line, skip
from gatepost.delivery import Destinations, Dialer, Lmtp, Relay, Security
from gatepost.delivery.attempt import Letter, Probe
from gatepost.delivery.calls import call_of, chosen
from gatepost.delivery.outbound import about, asked
from gatepost.delivery.route import Host
from gatepost.delivery.security import Protection
from gatepost.hooks import stages
from gatepost.model import Body, Bytes, Path
from gatepost.wire.smtp.client_events import Phase
from unit.delivery.delivery_peer import Peer, polite
from unit.delivery.delivery_plugins import ANN, BOB, CONTENT, LEFT, TAKEN, TICKET, Plugins, letter, send, sent


async def test_the_stages_come_in_the_order_of_the_dialogue():
    seen = []

    def remember(event):
        seen.append((event.name, getattr(event, "line", "")))

    hooks = [on(stage)(named(remember)) for stage in stages.OUTBOUND if stage is not stages.OutReply]
    found = await sent(*hooks, what=letter(ANN))
    assert found.codes == [250]
    size = len(CONTENT)
    assert seen == [
        ("out-session", ""),
        ("out-command", "EHLO me.example"),
        ("out-message", "MAIL FROM:<a@b.example>"),
        ("out-command", "MAIL FROM:<a@b.example>"),
        ("out-command", "RCPT TO:<ann@d.example>"),
        ("out-recipient", "RCPT TO:<ann@d.example>"),
        ("out-command", "DATA"),
        ("out-data", "DATA"),
        ("out-command", "QUIT"),
        ("out-quit", "QUIT"),
    ]
    assert size


def named(function):
    """The same function as a new coroutine function, so that each stage has a mark of its own."""

    async def hook(event):
        return function(event)

    return hook


async def test_what_an_event_tells():
    told = {}

    @on("out-reply")
    async def replies(event):
        told[event.phase] = (event.line, event.reply.code, event.recipient, event.ticket, str(event.sender))

    @on("out-message")
    async def message(event):
        told["here"] = (event.host, dict(event.capabilities), event.ticket, [str(one) for one in event.recipients])
        told["subject"] = event.message.headers["Subject"]
        told["session"] = (event.session.protocol, str(event.session.peer), event.session.tls)

    found = await sent(replies, message, what=letter(ANN))
    assert found.codes == [250]
    assert told["here"] == ("127.0.0.1", {"PIPELINING": "", "HELP": ""}, TICKET, ["ann@d.example"])
    assert told["subject"] == "x"
    assert told["session"] == ("smtp", "127.0.0.1", None)
    assert told["greeting"] == ("", 220, None, None, "")
    assert told["sender"] == ("MAIL FROM:<a@b.example>", 250, None, TICKET, "a@b.example")
    assert told["recipient"] == ("RCPT TO:<ann@d.example>", 250, ANN, TICKET, "a@b.example")
    assert told["end of data"][1] == 250


async def test_later_bindings_see_the_line_that_earlier_ones_send():
    seen = []

    @on("out-recipient", priority=1)
    async def first(event):
        return send_line("RCPT TO:<carl@d.example>")

    @on("out-recipient", priority=2)
    async def second(event):
        seen.append(event.line)
        return send_line(f"{event.line} NOTIFY=NEVER")

    @on("out-recipient", priority=3)
    async def third(event):
        return fail("never asked about") if event.line.endswith("ann@d.example>") else None

    found = await sent(first, second, third, what=letter(ANN))
    assert seen == ["RCPT TO:<carl@d.example>"]
    assert found.lines[2] == "RCPT TO:<carl@d.example> NOTIFY=NEVER"
    assert found.codes == [250]


async def test_what_ends_the_chain_is_the_last_word():
    asked_later = []

    @on("out-recipient", priority=1)
    async def first(event):
        return skip()

    @on("out-recipient", priority=2)
    async def second(event):
        asked_later.append(event)

    found = await sent(first, second, what=letter(ANN))
    assert found.codes == [451]
    assert asked_later == []
    assert [facts["plugins"] for facts in found.records.kinds("unasked")] == [["second"]]


# ── changing the message ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_message_is_changed_for_its_transaction_only():
    @on("out-message")
    async def sign(event):
        event.add_header("X-Signed", "yes", at=0)
        event.message.headers["Subject"] = "changed"

    stored = Bytes(CONTENT)
    what = Letter(Path.parse("a@b.example"), (ANN,), stored)
    found = await sent(sign, what=what, script=polite(offers="PIPELINING,SIZE 1000"))
    assert found.mail == [b"X-Signed: yes\r\nSubject: changed\r\n\r\nhello\r\n"]
    assert stored.data == CONTENT
    assert found.lines[1] == f"MAIL FROM:<a@b.example> SIZE={len(found.mail[0])}"


async def test_edits_of_an_answer_that_is_none_dont_count():
    @on("out-message", on_failure="proceed")
    async def half(event):
        event.add_header("X-Half", "yes")
        raise ValueError("half done")

    assert (await sent(half, what=letter(ANN))).mail == [CONTENT]


async def test_sender_and_recipients_cant_be_changed_any_more():
    @on("out-message")
    async def change(event):
        event.recipients.add("eve@evil.example")

    found = await sent(change, what=letter(ANN))
    assert found.codes == [451]
    assert "on the way out" in str(found.errors[0][2])


@pytest.mark.parametrize(("offers", "declared"), [("8BITMIME", " BODY=8BITMIME"), ("PIPELINING", "")])
async def test_eight_bits_put_in_by_a_plugin_are_declared_or_re_encoded(offers, declared):
    @on("out-message")
    async def body(event):
        await event.message.replace("grün\r\n".encode())

    content = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n"
    found = await sent(body, what=letter(ANN, content=content), script=polite(offers=offers))
    assert found.codes == [250]
    assert found.lines[1] == f"MAIL FROM:<a@b.example>{declared}"
    assert found.mail[0].isascii() is (not declared)


# ── opening the session ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_plugin_chooses_server_name_and_address_called_from():
    async with Peer(polite()) as peer:

        @on("out-session")
        async def choose(event):
            assert event.call.host == "127.0.0.9"
            event.connect_to(f"127.0.0.1:{peer.port}")
            event.introduce_as("pool7.example")
            event.call_from("127.0.0.5")

        addresses = []

        @on("out-command")
        async def look(event):
            addresses.append((event.host, event.session.local[0]))

        plugins = Plugins(choose, look)
        found = await send(plugins, peer, letter(ANN), Relay((Host("127.0.0.9", 1),), Security.NONE))
    assert found.codes == [250]
    assert found.lines[0] == "EHLO pool7.example"
    assert set(addresses) == {("127.0.0.1", "127.0.0.5")}


async def test_a_choice_of_an_answer_that_is_none_doesnt_count():
    @on("out-session", on_failure="proceed")
    async def choose(event):
        event.introduce_as("half.example")
        raise ValueError("half done")

    assert (await sent(choose)).lines[0] == "EHLO me.example"


def test_protection_can_be_raised_and_never_lowered():
    hop = Relay((Host("mx.example"),), Security.ENCRYPT)
    call = call_of(hop, hop.hosts[0], "me.example")
    assert call.levels == ("encrypt", "required", "implicit")
    policed = Host("mx.example", protection=Protection(Security.SECURE, names=("mx.example",)))
    assert call_of(hop, policed, "me.example").levels == ("required", "implicit")


def test_another_server_is_as_protected_as_the_one_it_stands_for():
    policed = Host("mx.example", protection=Protection(Security.SECURE, names=("mx.example",)))
    hop = Relay((policed,), Security.STARTTLS)
    before = call_of(hop, policed, "me.example")
    other = type(before)("other.example", 2525, before.helo, before.source, before.tls, before.levels)
    changed_hop, host = chosen(hop, policed, before, other)
    assert changed_hop == hop
    assert (host.name, host.port) == ("other.example", 2525)
    assert host.protection is not None and host.protection.level is Security.REQUIRED
    assert chosen(hop, policed, before, before) == (hop, policed)


@pytest.mark.parametrize("wrong", ["", "a b", "a:", "a:0", "a:99999", ":25", "a\r\nb", None])
async def test_what_isnt_a_server_is_a_value_error_at_the_authors_line(wrong):
    caught = []

    @on("out-session")
    async def choose(event):
        for change in (event.connect_to, event.introduce_as, event.protect):
            try:
                change(wrong)
            except ValueError as error:
                caught.append(error)

    found = await sent(choose)
    assert found.codes == TAKEN
    assert caught


# ── rules, pipelining, records ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rule", "when", "is_asked"),
    [
        ("mail from=*@b.example", {}, True),
        ("mail from=*@c.example", {}, False),
        ("rcpt to=bob@d.example", {}, True),
        ("rcpt to=carl@*", {}, False),
        ("ehlo=*.0.0.1", {}, True),
        ("ehlo=mx.other.example; rcpt to=bob@*", {}, True),
        ("", {"host": "127.*"}, True),
        ("", {"host": ["mx.example", "mx2.example"]}, False),
    ],
)
@pytest.mark.parametrize("stage", ["out-message", "out-command", "out-data", "out-reply"])
async def test_rules_match_the_message_and_the_next_server(stage, rule, when, is_asked):
    names = []

    @on(stage, rule=rule, when=when)
    async def hook(event):
        if event.ticket is not None:
            names.append(event.name)

    assert (await sent(hook)).codes == TAKEN
    assert bool(names) is is_asked


async def test_a_recipients_rule_is_about_the_recipient_named():
    named = []

    @on("out-recipient", rule="rcpt to=bob@*")
    async def hook(event):
        named.append(event.recipient)

    await sent(hook)
    assert named == [BOB]


@pytest.mark.parametrize(("pipelining", "may"), [(True, True), (False, False)])
def test_commands_wait_for_each_other_unless_every_binding_says_otherwise(pipelining, may):
    @on("out-reply", pipelining=pipelining)
    async def one(event): ...

    @on("out-reply", pipelining=True)
    async def other(event): ...

    found = asked(Plugins(one, other).around).asks()
    assert found.replies
    assert found.may_pipeline is may


def test_who_is_bound_decides_what_is_asked():
    @on("out-recipient")
    async def one(event): ...

    @on("message")
    async def inbound(event): ...

    assert asked(Plugins(inbound).around) is None
    found = asked(Plugins(one, inbound).around).asks()
    assert (found.commands, found.replies, found.may_pipeline) == ({Phase.RECIPIENT}, False, True)


async def test_decisions_are_recorded_under_the_messages_token():
    @on("out-recipient")
    async def hook(event):
        event.note(why="tired")
        return skip()

    found = await sent(hook, what=letter(ANN))
    [(token, kind, facts)] = found.records.entries
    assert (token, kind) == (TICKET.token, "asked")
    assert facts["transaction"] == TICKET.number
    assert facts["verdict"] == {"say": "skip"}
    assert (facts["recipient"], facts["host"], facts["notes"]) == ("ann@d.example", "127.0.0.1", {"why": "tired"})


async def test_a_probe_has_no_message_to_ask_about():
    seen = []
    hooks = [on(stage)(named(lambda event: seen.append(event.name))) for stage in stages.OUTBOUND]
    plugins = Plugins(*hooks)
    async with Peer(polite()) as peer:
        destinations = Destinations(Dialer("me.example", outbound=lambda: asked(plugins.around)))
        hop = Relay((peer.host,), Security.NONE)
        await destinations.deliver(hop, letter(ANN))
        seen.clear()
        [answer] = await destinations.probe(hop, Probe(Path.parse("a@b.example"), (BOB,)))
        await destinations.close()
    assert answer.outcome.reply.code == 250
    assert set(seen) == {"out-command", "out-reply", "out-quit"}
    await plugins.patience.idle()


async def test_a_hook_that_hangs_is_a_failed_hook_and_holds_nobody():
    @on("out-recipient", timeout=0.05)
    async def hangs(event):
        async with asyncio.timeout(0.2):
            await asyncio.Event().wait()

    found = await sent(hangs, what=letter(ANN))
    assert found.codes == [451]
    assert [type(error) for _, _, error in found.errors] == [TimeoutError]


async def test_what_is_kept_for_a_session_is_closed_with_it():
    closed = []

    class Thing:
        def __init__(self):
            self.count = 0

        async def aclose(self):
            closed.append(self.count)

    thing = per_session(Thing)

    @on("out-session")
    async def opens(event):
        thing(event).count += 1

    @on("out-recipient")
    async def counts(event):
        thing(event).count += 1

    assert (await sent(opens, counts)).codes == TAKEN
    assert closed == [3]


async def test_what_is_kept_for_a_session_that_didnt_come_about_is_closed_too():
    closed = []

    class Thing:
        def close(self):
            closed.append(1)

    thing = per_session(Thing)

    @on("out-session")
    async def opens(event):
        thing(event)

    plugins = Plugins(opens)
    async with Peer(polite()) as peer:
        gone = peer.host
    found = await send(plugins, peer, hop=Relay((gone,), Security.NONE))
    assert found.codes == LEFT
    assert closed == [1]


WORDS = {
    "proceed": None,
    "skip": skip(),
    "fail": fail(550, "5.7.9", "not there"),
    "fail-later": fail(450, "4.7.9", "not now"),
    "fail-text": fail("not there"),
    "send": send_line("NOOP instead"),
}


@pytest.mark.parametrize("word", ["skip", "fail-later", "fail"])
async def test_what_a_plugin_refuses_doesnt_count_against_the_server(word):
    answers = iter([WORDS[word], None])

    @on("out-session")
    async def once(event):
        return next(answers)

    plugins = Plugins(once)
    about.set(TICKET)
    async with Peer(polite()) as peer:
        destinations = Destinations(Dialer("me.example", outbound=lambda: asked(plugins.around)))
        hop = Relay((peer.host,), Security.NONE)
        [first] = await destinations.deliver(hop, letter(ANN), may_wait=True)
        [second] = await destinations.deliver(hop, letter(BOB), may_wait=True)
        await destinations.close()
    assert first.outcome.reply.code != 250
    assert second.outcome.reply.code == 250


@pytest.mark.parametrize(("word", "code"), [("proceed", 250), ("fail-text", 554), ("skip", 451), ("send", 451)])
async def test_bdat_is_asked_about_as_data_is_and_cant_be_changed(word, code):
    seen = []

    @on("out-data")
    async def hook(event):
        seen.append(event.line)
        return WORDS[word]

    what = letter(ANN, body=Body.BINARY_MIME)
    found = await sent(hook, what=what, script=polite(offers="PIPELINING,CHUNKING,BINARYMIME"))
    assert found.codes == [code]
    assert seen == ["BDAT"]
    assert bool(found.mail) is (code == 250)


async def test_lmtp_is_asked_about_as_smtp_is():
    seen = {}

    @on("out-command")
    async def hook(event):
        seen[event.verb] = event.session.protocol

    @on("out-reply")
    async def replies(event):
        if event.phase == "end of data" and event.recipient == BOB:
            return fail(550, "5.2.2", "he wouldn't want it")  # the server has taken it: nothing unsays that

    plugins = Plugins(hook, replies)
    async with Peer(polite((".", "250 2.0.0 for ann\n250 2.0.0 for bob"))) as peer:
        found = await send(plugins, peer, hop=Lmtp((peer.host,), Security.NONE))
    assert found.codes == TAKEN
    assert seen == dict.fromkeys(["LHLO", "MAIL", "RCPT", "DATA", "QUIT"], "lmtp")
