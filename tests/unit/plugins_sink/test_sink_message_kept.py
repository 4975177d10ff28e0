"""What sinks put on a message, and who sees it: at the next stages, after the 250, after a restart, on the way out."""

from __future__ import annotations

import time

import pytest

from gatepost import on
from gatepost.hooks import stages
from gatepost.plugins.sink.constants import (
    IMMPID_MP,
    MESSAGE_STATUS,
)
from gatepost.plugins.sink.mailmsg import Seal, wrap
from gatepost.plugins.sink.message import message_of
from gatepost.plugins.sink.message_changes import apply
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles
from gatepost.store.memory import memory_spool
from unit.delivery.delivery_plugins import sent
from unit.plugins_sink.sink_message_doubles import afterwards, at, sink, story, submission

TWO = ("<ann@example.org>", "<bob@example.com>")

# ── what is kept ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_put_before_mail_is_on_every_message_of_the_session():
    seen = []

    def mark(message, event):
        if event.verb == "EHLO":
            message.put_string(0x8001, "marked at EHLO")
            message.put_string(0x3001, "in passing")

    def look(message):
        seen.append((message.get_string(0x8001), message.get_string(0x3001)))

    def put(message):
        message.put_string(0x8005, "more")

    told = await story(at(stages.Command, mark), submission(look), submission(put), submission(look, name="last"))
    assert not told.errors
    assert seen == [("marked at EHLO", "in passing")] * 2
    assert "8001" not in told.entries[0].facts["kept"], "ids are in decimal"
    assert str(0x8001) in told.entries[0].facts["kept"]
    assert str(0x3001) not in told.entries[0].facts["kept"]


async def test_what_sinks_put_is_there_after_a_restart(tmp_path):
    seen = []

    def put(message):
        message.put_dword(0x8001, 7)
        message.recipients.put_string(0, 0x8002, "ann's")
        message.put_dword(0x3001, 8)
        message.recipients.put_dword(0, 0x4005, 8)

    def look(message):
        seen.append(message.get_dword(0x8001))
        seen.append(message.recipients.get_string(0, 0x8002))
        seen.append(0x3001 in message or 0x4005 in message.recipients[0])
        seen.append(message.get_string(IMMPID_MP.CONNECTION_IP_ADDRESS))
        seen.append(message.get_string(IMMPID_MP.HELO_DOMAIN))
        seen.append(message.get_dword(IMMPID_MP.MESSAGE_STATUS))
        message.put_dword(0x8001, seen[0] + 1)

    plugin = sink(OnMessageSubmission=put, OnSyncMessagePreCategorize=look, OnMessagePostCategorize=look)
    told = await story(plugin, spool=await open_shard(tmp_path, RealFiles(), time.time))
    assert (told.last[:3], told.errors) == ("250", [])
    await afterwards(plugin, await open_shard(tmp_path, RealFiles(), time.time))
    there = ["ann's", False, "192.0.2.1", "client.example"]
    assert seen == [7, *there, MESSAGE_STATUS.SUBMITTED, 8, *there, MESSAGE_STATUS.CATEGORIZED]


# ── after the 250 ──────────────────────────────────────────────────────────────────────────────────────────────────


async def delivered(plugin, **how):
    """A message accepted without sinks, and delivered with this one."""
    spool = memory_spool(time.time)
    kept_open = _Kept(spool)
    told = await story(spool=kept_open, **how)
    assert told.last.startswith("250"), told.last
    return await afterwards(plugin, spool)


class _Kept:
    """A spool that outlives the server in front of it."""

    def __init__(self, spool):
        self._spool = spool

    def __getattr__(self, name):
        return getattr(self._spool, name)

    async def close(self):
        return None


AFTER = ["OnSyncMessagePreCategorize", "OnMessagePostCategorize"]


@pytest.mark.parametrize("method", AFTER)
async def test_content_sender_and_recipients_are_changed_after_the_250(method):
    def change(message):
        assert IMMPID_MP.CONNECTION_IP_ADDRESS not in message, "nobody has kept it"
        at = message.read_content().index(b"hello")
        fork, forked = message.fork_for_recipients()
        forked.add_primary("dan@example.org")
        fork.write_content(at, b"DAN's")
        message.write_content(at, b"HELLO")
        added = message.recipients.alloc_new_list()
        added.add_primary("bob@example.com", source=message.recipients, index=1)
        added.add_primary("carol@example.org")
        message.recipients.write_list(added)

    found = await delivered(sink(**{method: change}), to=TWO)
    assert not found.records.errors
    assert found.copies.keys() == {"bob@example.com", "carol@example.org", "dan@example.org"}
    assert b"Subject: HELLO\r\n" in found.copies["carol@example.org"]
    assert b"Subject: DAN's\r\n" in found.copies["dan@example.org"]


@pytest.mark.parametrize("method", AFTER)
@pytest.mark.parametrize(
    ("status", "copies", "held"),
    [
        (MESSAGE_STATUS.SUCCESS, 1, []),
        (MESSAGE_STATUS.ABORT_DELIVERY, 0, []),
        (MESSAGE_STATUS.BAD_MAIL, 0, ["bad mail"]),
        (MESSAGE_STATUS.CATEGORIZED, 1, []),
    ],
)
async def test_message_status_after_the_250(method, status, copies, held):
    found = await delivered(sink(**{method: lambda message: message.put_dword(IMMPID_MP.MESSAGE_STATUS, status)}))
    assert not found.records.errors
    assert (len(found.copies), found.held) == (copies, held)


async def test_a_recipient_refused_after_the_250():
    found = await delivered(sink(OnMessagePostCategorize=lambda message: message.refuse("550 5.1.1 nobody", 0)), to=TWO)
    assert found.copies.keys() == {"bob@example.com", "postmaster@mx.example"}
    assert b"nobody" in found.copies["postmaster@mx.example"]
    assert len(found.held) == 1


# ── elsewhere ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_put_at_a_command_is_kept_with_the_message():
    def put(message, event):
        if event.verb == "DATA":
            message.put_string(0x8001, "at DATA")
            message.recipients.put_string(0, 0x8002, "ann's")
            message.recipients[1].address = "carol@example.org"

    seen = []

    def look(message):
        seen.append((message.get_string(0x8001), message.recipients.get_string(0, 0x8002)))

    told = await story(at(stages.Command, put), submission(look), to=TWO)
    assert not told.errors
    assert seen == [("at DATA", "ann's")]
    assert told.addresses == ["ann@example.org", "carol@example.org"]


async def test_on_the_way_out_properties_are_put_for_this_attempt_only():
    seen = []

    @on("out-command")
    def first(event):
        message, seal = message_of(event), Seal()
        properties = wrap(message, seal)
        if event.verb == "MAIL":
            properties.put_string(0x8001, "at MAIL")
            properties.recipients.put_dword(1, 0x8002, 5)
        elif event.verb == "DATA":
            seen.append((properties.get_string(0x8001), properties.recipients.get_dword(1, 0x8002)))
            seen.append((properties.sender, properties.read_content(0, 10)))
            seen.append(IMMPID_MP.CONNECTION_IP_ADDRESS in properties)
        seal.close()
        apply(event, message)

    found = await sent(first)
    assert not found.errors
    assert seen == [("at MAIL", 5), ("a@b.example", b"Subject: x"), False]


async def test_who_has_authenticated():
    seen = []

    def look(message, event):
        event.session.user, event.session.mechanism = "ann@example.org", "PLAIN"
        ids = (0x1008, IMMPID_MP.CLIENT_AUTH_USER, IMMPID_MP.CLIENT_AUTH_TYPE)
        seen.append([message.get_string(id) for id in ids])

    await story(at(stages.Sender, look))
    assert seen == [["ann@example.org", "ann@example.org", "PLAIN"]]
