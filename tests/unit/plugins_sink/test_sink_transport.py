"""Transport sinks on a real server: what they see of a message, what they change, and what becomes of it."""

from __future__ import annotations

import pytest

from gatepost.app.settings.root import Settings
from gatepost.hooks import stages
from gatepost.plugins.loaded import Wish
from gatepost.plugins.sink.constants import (
    EXPE_S_CONSUMED,
    IMMPID_MP,
    IMMPID_RP,
    MESSAGE_STATUS,
    RECIPIENT_FLAGS,
    S_FALSE,
)
from gatepost.testing.rig import Rig
from unit.plugins_sink.sink_message_doubles import CONTENT, at, story, submission

TWO = ("<ann@example.org>", "<bob@example.com>")


def body_of(stored: bytes) -> bytes:
    """What was sent, without the fields that the house has added above."""
    return stored[stored.index(b"From: ") :]


# ── what is seen ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_property_that_is_known_of_a_message():
    seen = {}

    def look(message):
        for id in IMMPID_MP:
            if id in message:
                seen[id] = message.get_property(id)
        seen["notify"] = message.recipients[0].flags
        seen["orcpt"] = message.recipients.get_string(0, IMMPID_RP.DSN_ORCPT_VALUE)
        seen["domains"] = [message.recipients.domain_item(i) for i in range(message.recipients.domain_count())]
        seen["size"] = message.get_content_size()

    told = await story(
        submission(look),
        sender="<eve@example.net> SIZE=77 BODY=8BITMIME RET=HDRS ENVID=QQ314159",
        to=("<ann@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob@Example.com", "<Bob@EXAMPLE.com>"),
    )
    assert told.last.startswith("250"), told.errors
    text = {id: value.rstrip(b"\0").decode("latin-1") for id, value in seen.items() if isinstance(value, bytes)}
    assert text[IMMPID_MP.SENDER_ADDRESS_SMTP] == "eve@example.net"
    assert text[IMMPID_MP.CONNECTION_IP_ADDRESS] == "192.0.2.1"
    assert text[IMMPID_MP.HELO_DOMAIN] == "client.example"
    assert text[IMMPID_MP.CONNECTION_SERVER_IP_ADDRESS] == "192.0.2.25"
    assert text[IMMPID_MP.SERVER_NAME] == "mx.test"
    assert text[IMMPID_MP.SERVER_VERSION].startswith("Gatepost ")
    assert text[IMMPID_MP.DSN_ENVID_VALUE] == "QQ314159"
    assert text[IMMPID_MP.DSN_RET_VALUE] == "HDRS"
    assert text[IMMPID_MP.RFC822_MSG_SUBJECT] == "hello"
    assert text[IMMPID_MP.RFC822_FROM_ADDRESS] == "Eve <eve@example.net>"
    assert text[IMMPID_MP.FROM_ADDRESS] == "eve@example.net"
    assert text[IMMPID_MP.RFC822_TO_ADDRESS] == "ann@example.org"
    number = {id: int.from_bytes(value, "little") for id, value in seen.items() if isinstance(value, bytes)}
    assert number[IMMPID_MP.NUM_RECIPIENTS] == 2
    assert number[IMMPID_MP.CONNECTION_SERVER_PORT] == 25
    assert number[IMMPID_MP.EIGHTBIT_MIME_OPTION] == 1
    assert number[IMMPID_MP.BINARYMIME_OPTION] == 0
    assert number[IMMPID_MP.MESSAGE_STATUS] == MESSAGE_STATUS.SUCCESS
    assert number[IMMPID_MP.MSG_SIZE_HINT] == seen["size"] > len(CONTENT)
    assert number[IMMPID_MP.ARRIVAL_TIME] == number[IMMPID_MP.ARRIVAL_FILETIME] > 133_000_000_000_000_000
    assert seen["notify"] == RECIPIENT_FLAGS.DSN_NOTIFY_SUCCESS | RECIPIENT_FLAGS.DSN_NOTIFY_DELAY
    assert seen["orcpt"] == "rfc822;Bob@Example.com"
    assert seen["domains"] == [("example.org", [0]), ("example.com", [1])]
    assert IMMPID_MP.CLIENT_AUTH_USER not in seen


async def test_the_message_fills_up_as_commands_arrive():
    seen = []

    def look(message, event):
        has_content = message.get_content_size() > 0
        ip = message.get_string(IMMPID_MP.CONNECTION_IP_ADDRESS)
        seen.append((event.verb, ip, message.sender, [one.address for one in message.recipients], has_content))

    await story(at(stages.Command, look), to=TWO)
    assert seen == [
        ("EHLO", "192.0.2.1", "", [], False),
        ("MAIL", "192.0.2.1", "", [], False),
        ("RCPT", "192.0.2.1", "eve@example.net", [], False),
        ("RCPT", "192.0.2.1", "eve@example.net", ["ann@example.org"], False),
        ("DATA", "192.0.2.1", "eve@example.net", ["ann@example.org", "bob@example.com"], False),
    ]


async def test_a_name_said_again_is_the_name():
    seen = []

    def look(message, event):
        seen.append(message.get_string(IMMPID_MP.HELO_DOMAIN) if IMMPID_MP.HELO_DOMAIN in message else None)

    async with Rig([at(stages.Command, look)]) as rig:
        client = rig.connect()
        await client.reply()
        for line in ("EHLO one.example", "EHLO two.example", "NOOP"):
            await client.command(line)
    assert seen == [None, "one.example", "two.example"]


async def test_long_header_fields_are_cut():
    seen = []

    def look(message):
        seen.append(len(message.get_string(IMMPID_MP.RFC822_MSG_SUBJECT)))

    await story(submission(look), content=b"Subject: " + (b"long word " * 90 + b"\r\n ") * 9 + b"\r\n\r\n")
    assert seen == [4096]


async def test_nothing_is_made_before_somebody_looks():
    made = []

    def look(message, event):
        made.append({slot for slot in ("properties", "recipients", "people", "content") if has(message._state, slot)})

    def has(state, slot):
        try:
            type(state).__mro__[1].__dict__.get(slot, type(state).__dict__.get(slot)).__get__(state)
        except AttributeError:
            return False
        return True

    await story(at(stages.Command, look))
    assert made == [set()] * 4


# ── what is changed ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_another_sender():
    def change(message):
        message.PutStringA(IMMPID_MP.SENDER_ADDRESS_SMTP, "other@example.net")

    told = await story(submission(change))
    assert str(told.entries[0].envelope.sender) == "other@example.net"


async def test_a_list_written_anew():
    def change(message):
        recipients = message.QueryInterface("IMailMsgRecipients")
        added = recipients.AllocNewList()
        added.AddPrimary(["bob@example.com"], [IMMPID_RP.ADDRESS_SMTP], recipients, 1)
        added.AddPrimary("carol@example.org")
        assert added.AddSecondary("Carol@example.org") is None
        assert added.AddSecondary("dan@example.org") == 2
        recipients.WriteList(added)
        assert [one.address for one in recipients] == ["bob@example.com", "carol@example.org", "dan@example.org"]

    told = await story(submission(change), to=("<ann@example.org>", "<bob@example.com> NOTIFY=NEVER"))
    assert told.addresses == ["bob@example.com", "carol@example.org", "dan@example.org"]
    assert told.entries[0].envelope.recipients[0].parameters == {"NOTIFY": "NEVER"}
    assert not told.errors


async def test_who_stays_stays_as_he_was():
    def change(message):
        message.sender = "eve@example.net"
        added = message.recipients.alloc_new_list()
        added.add_primary("ANN@example.org".lower())
        added.add_primary("carol@example.org")
        message.recipients.write_list(added)
        message.recipients.put_dword(0, 0x4005, 1)

    told = await story(submission(change), to=("<ann@example.org> NOTIFY=NEVER",))
    assert told.addresses == ["ann@example.org", "carol@example.org"]
    assert told.entries[0].envelope.recipients[0].parameters == {"NOTIFY": "NEVER"}
    [facts] = [facts for facts in told.rig.records.kinds("asked") if facts["plugin"] == "sink"]
    assert len(facts["edits"]) == 1, "neither the sender nor ann has changed"


async def test_another_address_and_other_reports_for_a_recipient():
    def change(message):
        message.recipients[0].address = "carol@example.org"
        message.recipients[1].flags |= RECIPIENT_FLAGS.DSN_NOTIFY_NEVER

    told = await story(submission(change), to=TWO)
    assert sorted(told.addresses) == ["bob@example.com", "carol@example.org"]
    [bob] = [one for one in told.entries[0].envelope.recipients if one.local == "bob"]
    assert bob.parameters == {"NOTIFY": "NEVER"}


async def test_an_address_that_is_none_is_a_failure_that_changes_nothing():
    def change(message):
        message.sender = "other@example.net"
        message.recipients[0].address = "no address"

    told = await story(submission(change))
    assert told.last.startswith("451 4.3.0")
    assert "no address" in told.errors[0]
    told = await story(submission(change, wish=Wish(on_failure="proceed")))
    assert told.last.startswith("250")
    assert (told.addresses, str(told.entries[0].envelope.sender)) == (["ann@example.org"], "eve@example.net")


@pytest.mark.parametrize("size", [100, 200_000])
async def test_content_written_at_an_offset(size):
    content = CONTENT + b"0123456789abcd\r\n" * (size // 16)

    def change(message):
        whole = message.ReadContent(0, message.GetContentSize())
        at = whole.index(b"hello")
        assert message.WriteContent(at, b"HELLO, world\r\n\r\nother") == 21
        assert message.ReadContent(at, 5) == b"HELLO"

    told = await story(submission(change), content=content)
    assert body_of(told.of("ann@example.org")).startswith(b"From: Eve <eve@example.net>\r\nTo: ann@example.org\r\n")
    assert b"Subject: HELLO, world\r\n\r\nother" in told.of("ann@example.org")
    assert told.of("ann@example.org").endswith(content[-10:])


async def test_content_made_longer_and_shorter():
    def append(message):
        message.write_content(message.get_content_size(), b"-- \r\nchecked\r\n")

    def cut(message):
        message.set_content_size(message.get_content_size() - 9)

    def mapped(message):
        octets = message.map_content(write=True)
        at = octets.index(b"hello")
        octets[at : at + 5] = b"HELLO, all"
        octets += b"more\r\n"
        message.unmap_content(octets)

    told = await story(submission(append), submission(cut, name="cut"), submission(mapped, name="mapped"))
    assert told.of("ann@example.org").endswith(b"Subject: HELLO, all\r\n\r\nhi\r\n.dot\r\n-- \r\nmore\r\n")


async def test_content_that_is_too_large_or_gone():
    def blow_up(message):
        message.set_content_size(5000)

    told = await story(submission(blow_up, message_size=4999))
    assert told.last.startswith("552 5.3.4 the message is too large as a plugin has changed it")

    def empty(message):
        message.set_content_size(0)

    told = await story(submission(empty))
    assert told.last.startswith("451")
    assert "content is empty" in told.errors[0]


async def test_a_fork_has_content_of_its_own():
    def fork(message):
        other, recipients = message.ForkForRecipients()
        recipients.AddPrimary("bob@example.com")
        recipients.AddPrimary("carol@example.org")
        at = other.read_content().index(b"hello")
        other.WriteContent(at, b"HELLO")
        message.WriteContent(at, b"Hello")

    told = await story(submission(fork), to=TWO)
    assert b"Subject: Hello\r\n" in told.of("ann@example.org")
    assert b"Subject: HELLO\r\n" in told.of("bob@example.com")
    assert b"Subject: HELLO\r\n" in told.of("carol@example.org")
    assert len(told.addresses) == 3
    assert not told.errors


async def test_a_fork_that_keeps_what_the_message_was():
    def fork(message):
        _, recipients = message.fork_for_recipients()
        recipients.add_primary("bob@example.com")
        message.write_content(message.read_content().index(b"hello"), b"HELLO")

    told = await story(submission(fork), to=TWO)
    assert b"Subject: HELLO\r\n" in told.of("ann@example.org")
    assert b"Subject: hello\r\n" in told.of("bob@example.com")


async def test_a_fork_of_everybody_who_is_left():
    """The list is written without those who are in the fork, as sinks do that know no other way."""

    def fork(message):
        other, forked = message.fork_for_recipients()
        forked.add_primary("bob@example.com", source=message.recipients, index=1)
        other.write_content(other.get_content_size(), b"for bob\r\n")
        kept = message.recipients.alloc_new_list()
        kept.add_primary("ann@example.org", source=message.recipients, index=0)
        message.recipients.write_list(kept)

    told = await story(submission(fork), to=TWO)
    assert told.of("bob@example.com") == told.of("ann@example.org") + b"for bob\r\n"
    assert not told.errors


# ── what becomes of it ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "reply", "held"),
    [
        (MESSAGE_STATUS.SUCCESS, "250", None),
        (MESSAGE_STATUS.RETRY, "451 4.3.0", ...),
        (MESSAGE_STATUS.ABORT_DELIVERY, "250", ...),
        (MESSAGE_STATUS.BAD_MAIL, "250", "bad mail"),
        (MESSAGE_STATUS.SUBMITTED, "250", None),
        (MESSAGE_STATUS.ABANDON_DELIVERY, "554 5.7.1", ...),
    ],
)
async def test_every_message_status(status, reply, held):
    told = await story(submission(lambda message: message.PutDWORD(IMMPID_MP.MESSAGE_STATUS, status)))
    assert told.last.startswith(reply)
    assert [entry.held for entry in told.entries] == ([] if held is ... else [held])
    assert not told.errors


@pytest.mark.parametrize(
    ("flags", "text", "reply"),
    [
        (RECIPIENT_FLAGS.FAILED, "550 5.7.1 not you", "550 5.7.1 not you"),
        (RECIPIENT_FLAGS.FAILED, "452-4.2.2 mailbox full", "452 4.2.2 mailbox full"),
        (RECIPIENT_FLAGS.FAILED, "554 4.2.2 of two minds", "554 5.7.1 of two minds"),
        (RECIPIENT_FLAGS.FAILED, "not you", "550 5.7.1 not you"),
        (RECIPIENT_FLAGS.FAILED, "", "550 5.7.1 refused"),
        (RECIPIENT_FLAGS.UNRESOLVED, "", "550 5.1.1 no such recipient"),
        (0, "550 5.7.1 a note only", "250"),
    ],
)
async def test_a_recipient_that_is_refused(flags, text, reply):
    def refuse(message):
        message.recipients.put_dword(0, IMMPID_RP.RECIPIENT_FLAGS, flags)
        if text:
            message.recipients.put_string(0, IMMPID_RP.SMTP_STATUS_STRING, text)

    told = await story(submission(refuse))
    assert told.last.startswith(reply)
    assert bool(told.entries) == (reply == "250")
    assert not told.errors


async def test_an_error_code_refuses_too():
    told = await story(submission(lambda message: message.recipients.PutDWORD(0, IMMPID_RP.ERROR_CODE, 0x80004005)))
    assert told.last.startswith("550 5.7.1 refused")
    told = await story(submission(lambda message: message.recipients.PutDWORD(0, IMMPID_RP.ERROR_CODE, 0)))
    assert told.last.startswith("250")


async def test_one_recipient_of_two_is_refused():
    lmtp = Settings.in_memory(hostname="mx.test", listen=[{"name": "l", "address": "127.0.0.1:0", "protocol": "lmtp"}])
    plugin = submission(lambda message: message.refuse("550 5.7.1 not you", "Bob@example.com"))
    told = await story(plugin, to=TWO, settings=lmtp, hello="LHLO")
    assert [reply[:9] for reply in told.replies[-2:]] == ["250 2.0.0", "550 5.7.1"]
    assert "not you" in told.last
    assert told.addresses == ["ann@example.org"]


async def test_all_recipients_are_refused_in_one_word():
    told = await story(submission(lambda message: message.refuse("550 5.7.9 nobody")), to=TWO)
    assert told.last.startswith("550 5.7.9 nobody")
    [facts] = [facts for facts in told.rig.records.kinds("asked") if facts["plugin"] == "sink"]
    assert "each" not in facts


async def test_recipients_that_are_taken_or_dropped():
    def decide(message):
        message.recipients[0].flags |= RECIPIENT_FLAGS.DELIVERED
        message.recipients[1].put_bool(IMMPID_RP.DONT_DELIVER, True)

    told = await story(submission(decide), to=(*TWO, "<carol@example.org>"))
    assert told.last.startswith("250")
    assert told.addresses == ["carol@example.org"]


# ── the chain ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("hresult", "asked"), [(0, True), (S_FALSE, False), (EXPE_S_CONSUMED, False)])
async def test_who_is_asked_after_a_success(hresult, asked):
    seen = []
    told = await story(
        submission(lambda message: hresult, name="first"),
        submission(lambda message: seen.append("asked"), name="second"),
    )
    assert told.last.startswith("250")
    assert bool(seen) == asked


async def test_a_failure_goes_by_the_bindings_word():
    def fail(message):
        message.put_string(0x8000, "mine")
        return 0x80004005

    told = await story(submission(fail))
    assert told.last.startswith("451")
    [error] = told.errors
    assert error.startswith("SinkFailed: OnMessageSubmission returned ")
    assert "0x80004005" in error
    told = await story(submission(fail, wish=Wish(on_failure="proceed")))
    assert told.last.startswith("250")
    assert "kept" not in told.entries[0].facts


async def test_later_sinks_see_what_earlier_ones_have_done():
    seen = []

    def first(message):
        message.put_dword(0x8001, 7)
        message.put_dword(0x3001, 8)
        message.recipients[1].put_string(0x8002, "bob's")
        message.recipients[0].put_dword(0x4005, 9)
        message.sender = "other@example.net"
        message.write_content(message.read_content().index(b"hello"), b"HELLO")

    def second(message):
        seen.append(message.get_dword(0x8001))
        seen.append(message.get_dword(0x3001))
        seen.append(message.recipients.get_string(1, 0x8002))
        seen.append(message.recipients.get_dword(0, 0x4005))
        seen.append(message.sender)
        seen.append(message.get_string(IMMPID_MP.RFC822_MSG_SUBJECT))

    told = await story(submission(first, name="first"), submission(second, name="second"), to=TWO)
    assert not told.errors
    assert seen == [7, 8, "bob's", 9, "other@example.net", "HELLO"]


async def test_more_than_can_be_kept_is_a_failure():
    def much(message):
        for id in range(0x8000, 0x8000 + 12):
            message.put_property(id, b"x" * 5000)

    told = await story(submission(much))
    assert told.last.startswith("451")
    assert "is too much to be kept" in told.errors[0]
