"""Transport sinks: forks and their recipients, shadows, kinds of messages, results that come later."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gatepost.hooks.api import on
from gatepost.plugins.loaded import Wish
from gatepost.plugins.python import load
from gatepost.plugins.sink.constants import (
    E_FAIL,
    EXPE_S_CONSUMED,
    IMMPID_MP,
    IMMPID_RP,
    MAILTRANSPORT_S_PENDING,
    MESSAGE_STATUS,
    RECIPIENT_FLAGS,
    S_FALSE,
    S_OK,
)
from gatepost.plugins.sink.loading import load_sink
from gatepost.testing.rig import Rig
from unit.plugins_sink.sink_message_doubles import CONTENT, story, submission

TWO = ("<ann@example.org>", "<bob@example.com>")


@pytest.mark.parametrize(
    ("status", "reply", "kept"),
    [
        (MESSAGE_STATUS.SUCCESS, "250", ["ann@example.org", "bob@example.com"]),
        (MESSAGE_STATUS.ABORT_DELIVERY, "250", ["ann@example.org"]),
    ],
)
async def test_the_status_of_a_fork_is_that_of_its_recipients(status, reply, kept):
    def fork(message):
        other, recipients = message.ForkForRecipients()
        recipients.AddPrimary("bob@example.com", None, message.recipients, 1)
        other.PutDWORD(IMMPID_MP.MESSAGE_STATUS, status)

    told = await story(submission(fork), to=TWO)
    assert told.last.startswith(reply), told.errors
    assert told.addresses == kept


@pytest.mark.parametrize("on_list", [True, False])
async def test_a_forks_recipient_is_refused(on_list):
    def fork(message):
        other, recipients = message.ForkForRecipients()
        recipients.AddPrimary("bob@example.com", None, message.recipients, 1)
        if on_list:
            recipients.PutDWORD(0, IMMPID_RP.RECIPIENT_FLAGS, RECIPIENT_FLAGS.FAILED)
            recipients.PutStringA(0, IMMPID_RP.SMTP_STATUS_STRING, "550 5.7.1 not bob")
        else:
            other.refuse("550 5.7.1 not bob")

    async with Rig([submission(fork)]) as rig:
        client = rig.connect()
        await client.reply()
        for line in (
            "LHLO client.example",
            "EHLO client.example",
            "MAIL FROM:<eve@example.net> PRDR",
            *(f"RCPT TO:{one}" for one in TWO),
            "DATA",
        ):
            await client.command(line)
        heard = await client.content(CONTENT)
        replies = [heard] + [await client.reply() for _ in range(2)]
        assert [one[:3] for one in replies] == ["353", "250", "550"]
        assert "not bob" in replies[2]
        assert [one.address for entry in await rig.spool.entries() for one in entry.envelope.recipients] == [
            "ann@example.org"
        ]


@pytest.mark.parametrize("id", [0x8000, IMMPID_MP.SENDER_ADDRESS_SMTP])
async def test_what_a_fork_cannot_keep_is_told(id):
    def fork(message):
        other, _ = message.ForkForRecipients()
        other.PutStringA(id, "eve@example.org")

    told = await story(submission(fork))
    assert told.last.startswith("451")
    assert "MESSAGE_STATUS alone can be put on it" in told.errors[0]


@pytest.mark.parametrize("hresult", [S_OK, EXPE_S_CONSUMED])
async def test_a_shadow_neither_ends_the_chain_nor_puts_anything_that_others_see(hresult):
    seen = []

    def shadows(message):
        message.PutDWORD(0x3000, 7)
        message.PutDWORD(0x8000, 7)
        message.recipients.PutDWORD(0, 0x4005, 7)
        message.sender = "other@example.org"
        return hresult

    def looks(message):
        seen.append((0x3000 in message, 0x8000 in message, 0x4005 in message.recipients[0], message.sender))

    shadow_is_done = asyncio.Event()

    class Shadow:
        async def OnMessageSubmission(self, message, notify, context):
            try:
                return shadows(message)
            finally:
                shadow_is_done.set()

    @on("message", priority=150)
    async def waits(event):
        await shadow_is_done.wait()
        await asyncio.sleep(0)

    told = await story(
        await load_sink(Shadow, wishes=[Wish(shadow=True, priority=100)]),
        load(waits),
        submission(looks, wish=Wish(priority=200)),
    )
    assert told.last.startswith("250"), told.errors
    assert seen == [(False, False, False, "eve@example.net")]
    assert [one["plugin"] for one in told.rig.records.kinds("asked") if one.get("shadow")] == ["Shadow"]


async def test_a_general_failure_refuses():
    def fails(message):
        message.recipients.PutDWORD(
            0, IMMPID_RP.RECIPIENT_FLAGS, RECIPIENT_FLAGS.HANDLED | RECIPIENT_FLAGS.GENERAL_FAILURE
        )

    told = await story(submission(fails))
    assert told.last.startswith("550 5.7.1")
    assert told.entries == []


def report(action: str) -> bytes:
    head = b'Content-Type: multipart/report; report-type="delivery-status"; boundary=x\r\nX-Priority: 2 (high)\r\n\r\n'
    parts = f"--x\r\n\r\nwords\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\nAction: {action}\r\n--x--\r\n"
    return head + parts.encode()


@pytest.mark.parametrize(
    ("content", "kind", "priority", "content_type"),
    [
        (CONTENT, None, None, None),
        (
            b"X-Priority: high\r\nContent-Type: multipart/report; report-type=other\r\n\r\nx\r\n",
            None,
            None,
            "multipart/report",
        ),
        (report("failed"), 4, 2, "multipart/report"),
        (report("Delayed"), 3, 2, "multipart/report"),
        (report("delivered"), 3, 2, "multipart/report"),
        (b"X-Priority: 12345678901\r\nContent-Type: text/plain\r\n\r\nAction: failed\r\n", None, None, "text/plain"),
    ],
)
async def test_what_kind_of_message_it_is(content, kind, priority, content_type):
    seen = []

    def look(message):
        get = message.get_dword
        seen.append(
            (
                get(IMMPID_MP.MSGCLASS) if IMMPID_MP.MSGCLASS in message else None,
                get(IMMPID_MP.X_PRIORITY) if IMMPID_MP.X_PRIORITY in message else None,
                message.get_string(IMMPID_MP.CONTENT_TYPE).partition(";")[0]
                if IMMPID_MP.CONTENT_TYPE in message
                else None,
            )
        )

    await story(submission(look), content=content)
    assert seen == [(kind, priority, content_type)]


@pytest.mark.parametrize("pending", [S_FALSE, MAILTRANSPORT_S_PENDING])
@pytest.mark.parametrize(
    ("result", "reply", "asked"),
    [(S_OK, "250", 1), (EXPE_S_CONSUMED, "250", 0), (E_FAIL, "451", 0)],
)
async def test_a_transport_event_is_completed_from_another_thread(pending, result, reply, asked):
    seen = []

    class Pends:
        def OnMessageSubmission(self, message, notify, context):
            def finish():
                message.PutDWORD(0x8000, 7)
                notify.Notify(result, context)

            threading.Thread(target=finish).start()
            return pending

    told = await story(await load_sink(Pends), submission(lambda message: seen.append(message.GetDWORD(0x8000))))
    assert told.last.startswith(reply), told.errors
    assert seen == [7] * asked
