"""The objects that a sink in Python is given for a message, method by method, under both of its names."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import re

import pytest

from gatepost.model import Bytes
from gatepost.plugins.sink.constants import IMMPID_RP, MAILMSG_E_PROPNOTFOUND, RECIPIENT_FLAGS
from gatepost.plugins.sink.mailmsg import (
    BadArgument,
    CallOver,
    MailMsgLoggingPropertyBag,
    MailMsgProperties,
    MailMsgPropertyBag,
    MailMsgPropertyManagement,
    MailMsgRecipients,
    MailMsgRecipientsAdd,
    NoContent,
    NoInterface,
    NoRecipient,
    PropertyNotFound,
    Seal,
    TooMuch,
    wrap,
)
from gatepost.plugins.sink.mailmsg_content import SMALL, Content
from gatepost.plugins.sink.properties import dword, string
from gatepost.plugins.sink.states import Message

CONTENT = b"Subject: x\r\n\r\n.one\r\n..two\r\nthree\r\n"
ORIGINAL = {
    MailMsgPropertyBag: "PutProperty GetProperty PutStringA GetStringA PutStringW GetStringW PutDWORD GetDWORD PutBool"
    " GetBool QueryInterface",
    MailMsgLoggingPropertyBag: "WriteToLog",
    MailMsgProperties: "Commit PutProperty GetProperty PutStringA GetStringA PutStringW GetStringW PutDWORD GetDWORD"
    " PutBool GetBool GetContentSize ReadContent WriteContent CopyContentToFile CopyContentToFileEx ForkForRecipients"
    " CopyContentToFileAtOffset RebindAfterFork SetContentSize MapContent UnmapContent QueryInterface",
    MailMsgRecipients: "Count Item PutProperty GetProperty PutStringA GetStringA PutStringW GetStringW PutDWORD"
    " GetDWORD PutBool GetBool Commit DomainCount DomainItem AllocNewList WriteList SetNextDomain"
    " InitializeRecipientFilterContext TerminateRecipientFilterContext GetNextRecipient QueryInterface",
    MailMsgRecipientsAdd: "Count Item PutProperty GetProperty AddPrimary AddSecondary QueryInterface",
    MailMsgPropertyManagement: "AllocPropIDRange QueryInterface",
}


def recipient(address: str, flags: int = 0) -> dict[int, bytes]:
    domain = address.partition("@")[2]
    return {
        IMMPID_RP.ADDRESS_SMTP: string(address),
        IMMPID_RP.DOMAIN: string(domain),
        IMMPID_RP.RECIPIENT_FLAGS: dword(flags),
    }


def made(content: bytes | None = CONTENT):
    people = [recipient("ann@a.example"), recipient("bob@b.example", 0x01000000), recipient("cid@A.example")]
    state, seal = Message(recipients=people, content=None if content is None else Bytes(content)), Seal()
    return wrap(state, seal), state, seal


@pytest.mark.parametrize("kind", ORIGINAL, ids=lambda kind: kind.__name__)
def test_every_method_has_its_original_name(kind):
    for name in ORIGINAL[kind].split():
        method = getattr(kind, name)
        assert method.__doc__, name
        pythonic = [other for other, value in inspect.getmembers(kind) if value is method and other[0].islower()]
        assert len(pythonic) == 1, name
        assert re.fullmatch(r"[a-z_]+", pythonic[0])


def test_values_of_every_kind():
    bag, seal = {}, Seal()
    properties = MailMsgPropertyBag(bag, seal)
    properties.PutDWORD(1, 0xFFFFFFFF)
    properties.PutBool(2, True)
    properties.PutStringA(3, "grüße\0cut")
    properties.PutStringW(4, "grüße")
    properties.PutProperty(5, b"\0\1")
    assert bag == {
        1: b"\xff" * 4,
        2: b"\1\0\0\0",
        3: b"gr\xc3\xbc\xc3\x9fe\0",
        4: "grüße\0".encode("utf-16-le"),
        5: b"\0\1",
    }
    assert properties.get_dword(1) == 0xFFFFFFFF
    assert properties.get_bool(2) is True
    assert (properties.get_string(3), properties.get_wide_string(4), properties.get_property(5)) == (
        "grüße",
        "grüße",
        b"\0\1",
    )
    assert 5 in properties
    assert 6 not in properties
    for wrong in (5, 3):
        with pytest.raises(ValueError, match="DWORD"):
            properties.get_dword(wrong)
    for method in ("GetProperty", "GetStringA", "GetStringW", "GetDWORD", "GetBool"):
        with pytest.raises(PropertyNotFound, match="0x99") as raised:
            getattr(properties, method)(0x99)
        assert raised.value.hresult == MAILMSG_E_PROPNOTFOUND


def test_a_bag_has_an_end():
    properties = MailMsgPropertyBag({}, Seal())
    properties.put_property(1, bytes(60_000))
    properties.put_property(1, bytes(65_000))
    with pytest.raises(TooMuch, match="64 KiB"):
        properties.put_property(2, bytes(1000))
    for id in (-1, 2**32, "x"):
        with pytest.raises(BadArgument, match="no property's id"):
            properties.put_dword(id, 1)
    with pytest.raises(ValueError, match="no DWORD"):
        properties.put_dword(3, -1)


def test_interfaces_are_found_by_name_and_iid():
    message, _, seal = made()
    recipients = message.QueryInterface("IMailMsgRecipients")
    assert recipients is message.recipients is message.query_interface("{19507fe0-a892-11d1-aa91-00aa006bc80b}")
    assert message.query_interface("IMailMsgProperties") is message
    assert message.query_interface("IUnknown") is message
    assert isinstance(message.query_interface("IMailMsgPropertyManagement"), MailMsgPropertyManagement)
    with pytest.raises(NoInterface, match="ISomething"):
        message.query_interface("ISomething")
    bag = MailMsgLoggingPropertyBag({}, seal)
    assert bag.query_interface("IMailMsgPropertyBag") is bag
    with pytest.raises(NoInterface):
        bag.query_interface("IMailMsgProperties")


def test_a_line_in_the_log(caplog):
    bag = MailMsgLoggingPropertyBag({}, Seal())
    with caplog.at_level(logging.INFO, "gatepost.plugins"):
        bag.WriteToLog("192.0.2.1", operation="RCPT", target="ann\r\nforged", protocol_status=550)
    assert caplog.messages == ["sink: client=192.0.2.1 operation=RCPT target=ann  forged status=550"]


def test_ranges_of_ids_are_the_same_each_time():
    management = MailMsgPropertyManagement(Seal())
    guid = "{B2D42A0E-0D5F-11D2-AA68-00C04FA35B82}"
    first = management.AllocPropIDRange(guid, 10)
    assert 0x10000 <= first < 0x80000000
    assert first == management.alloc_prop_id_range(guid.lower(), 4096)
    assert first == management.alloc_prop_id_range(guid.strip("{}"), 1)
    assert first != management.alloc_prop_id_range("{00000001-6a7e-4057-9a7e-905700000101}", 10)
    for count in (0, 4097):
        with pytest.raises(BadArgument):
            management.alloc_prop_id_range(guid, count)


# ── recipients ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_recipients_one_by_one():
    message, state, _ = made()
    recipients = message.recipients
    assert (recipients.Count(), len(recipients), recipients.Item(1)) == (3, 3, "bob@b.example")
    assert [str(one) for one in recipients] == ["ann@a.example", "bob@b.example", "cid@A.example"]
    recipients.PutDWORD(0, 0x8000, 7)
    recipients.put_string(1, 0x8001, "text")
    recipients.put_wide_string(1, 0x8002, "wide")
    recipients.put_bool(1, 0x8003, True)
    recipients.put_property(1, 0x8004, b"octets")
    assert recipients.get_dword(0, 0x8000) == 7
    assert (recipients.get_string(1, 0x8001), recipients.get_wide_string(1, 0x8002)) == ("text", "wide")
    assert (recipients.get_bool(1, 0x8003), recipients.get_property(1, 0x8004)) == (True, b"octets")
    assert state.put_for == {0: {0x8000}, 1: {0x8001, 0x8002, 0x8003, 0x8004}}
    with pytest.raises(PropertyNotFound):
        recipients.get_string(0, IMMPID_RP.DISPLAY_NAME)
    for index in (3, -1):
        with pytest.raises(NoRecipient):
            recipients.get_dword(index, 0x8000)
    recipients.Commit(0)


def test_domains_and_filters():
    recipients = made()[0].recipients
    assert recipients.DomainCount() == 2
    assert [recipients.DomainItem(index) for index in range(2)] == [("a.example", [0, 2]), ("b.example", [1])]
    recipients.SetNextDomain(0, 1)
    for call in (recipients.domain_item, lambda index: recipients.set_next_domain(0, index)):
        with pytest.raises(NoRecipient):
            call(2)
    everybody = recipients.InitializeRecipientFilterContext()
    assert [recipients.GetNextRecipient(everybody) for _ in range(4)] == [0, 2, 1, None]
    success = RECIPIENT_FLAGS.DSN_NOTIFY_SUCCESS
    chosen = recipients.initialize_recipient_filter_context(0, success, success)
    assert recipients.get_next_recipient(chosen) == 1
    recipients.TerminateRecipientFilterContext(chosen)
    assert recipients.get_next_recipient(chosen) is None
    assert recipients.get_next_recipient(recipients.initialize_recipient_filter_context(1, 0, 0)) == 1


def test_a_new_list():
    message, state, _ = made()
    recipients = message.recipients
    added = recipients.AllocNewList()
    assert added.AddPrimary(["dan@d.example", "Dan"], [IMMPID_RP.ADDRESS_SMTP, IMMPID_RP.DISPLAY_NAME]) == 0
    assert added.AddPrimary({IMMPID_RP.ADDRESS_SMTP: "eva@e.example"}, None, recipients, 1) == 1
    assert added.AddSecondary("DAN@d.example") is None
    assert added.AddPrimary("fay@d.example") == 2
    assert (added.Count(), added.Item(0, IMMPID_RP.DISPLAY_NAME)) == (3, "Dan")
    assert added.AddPrimary("Fay@d.example") == 2, "a primary takes the place of one of its name"
    assert (added.Count(), added.Item(2)) == (3, "Fay@d.example")
    assert added[1].flags == RECIPIENT_FLAGS.DSN_NOTIFY_SUCCESS
    assert state.written_list is None
    recipients.WriteList(added)
    assert recipients.count() == 3
    assert [one[IMMPID_RP.DOMAIN] for one in state.written_list] == [b"d.example\0", b"e.example\0", b"d.example\0"]
    recipients.put_dword(0, 0x8000, 7)
    assert (state.written_list[0][0x8000], state.put_for) == (dword(7), {})
    for wrong in (lambda: added.add_primary([]), lambda: added.add_primary(["a"], [1, 2])):
        with pytest.raises(BadArgument):
            wrong()
    with pytest.raises(BadArgument):
        recipients.write_list([])
    with pytest.raises(NoRecipient):
        added.add_primary("x@y.example", source=recipients, index=9)


# ── content ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reading_never_copies():
    message, state, seal = made()
    assert message.GetContentSize() == len(CONTENT)
    assert message.ReadContent(0, 7) == b"Subject"
    assert message.read_content(len(CONTENT) - 2, 100) == b"\r\n"
    assert message.read_content(10_000, 5) == b""
    assert message.read_content() == CONTENT
    for offset, length in ((-1, 1), (0, -1)):
        with pytest.raises(BadArgument):
            message.read_content(offset, length)
    seal.close()
    assert state.rewritten is None


def test_before_the_content_is_there():
    message, _, _ = made(None)
    assert message.get_content_size() == 0
    for call in (message.read_content, lambda: message.write_content(0, b"x"), message.fork_for_recipients):
        with pytest.raises(NoContent):
            call()


@pytest.mark.parametrize("size", [1000, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL])
def test_writing_is_as_writing_an_array(size):
    """Compared with the same done to an array, on both sides of where a copy leaves memory."""
    base = bytes(range(256)) * (size // 256 + 1)
    content, array = Content(Bytes(base[:size])), bytearray(base[:size])
    for offset, octets in ((0, b"start"), (size - 3, b"over the end"), (size + 500, b"gap"), (SMALL - 2, b"bound")):
        content.write(offset, octets)
        array.extend(bytes(max(0, offset - len(array))))
        array[offset : offset + len(octets)] = octets
        assert content.size == len(array)
    taken = content.snapshot()
    content.write(0, b"after")
    content.resize(100)
    content.resize(SMALL + 10)
    array_after = bytearray(array)
    array_after[:5] = b"after"
    assert taken.read() == b"".join(taken.chunks()) == array
    with taken.open() as stream:
        assert stream.read() == array
    assert content.read(0, 1 << 20) == bytes(array_after[:100]) + bytes(SMALL - 90)
    for wrong in (lambda: content.write(-1, b"x"), lambda: content.resize(-1)):
        with pytest.raises(BadArgument):
            wrong()
    with pytest.raises(TooMuch):
        content.resize(2**31)


def test_large_copies_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    content = Content(Bytes(bytes(SMALL)))
    content.write(SMALL, b"one more")
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before + 1
    blob = content.snapshot()
    del content
    assert blob.read(SMALL) == b"one more"
    del blob
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_copies_into_files(tmp_path):
    message, _, _ = made()
    path = tmp_path / "copy"
    assert message.CopyContentToFile(path) == len(CONTENT) == path.stat().st_size
    assert message.CopyContentToFileEx(str(path), dot_stuffed=True) == len(CONTENT) + 2
    assert path.read_bytes() == CONTENT.replace(b"\r\n.", b"\r\n..")
    path.write_bytes(b"0123456789")
    message.CopyContentToFileAtOffset(path, 4)
    assert path.read_bytes() == b"0123" + CONTENT
    with path.open("wb") as stream:
        message.copy_content_to_file_ex(stream)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("edge", [-1, 0, 1])
def test_dots_are_stuffed_across_pieces(tmp_path, edge):
    content = b"." + b"x" * (64 * 1024 - 3 + edge) + b"\r\n.\r\n"
    made(content)[0].copy_content_to_file_ex(tmp_path / "copy", True)
    assert (tmp_path / "copy").read_bytes() == b"." + content.replace(b"\r\n.", b"\r\n..")


def test_mapped_content():
    message, state, seal = made()
    read = message.MapContent(False)
    assert bytes(read) == CONTENT
    with pytest.raises(TypeError):
        read[0] = 0
    message.UnmapContent(read)
    with pytest.raises(BadArgument):
        message.unmap_content(read)
    written = message.map_content(write=True)
    message.unmap_content(written)
    other = message.map_content(write=True)
    other[:7] = b"X-Other"
    message.unmap_content(other)
    seal.close()
    assert state.rewritten.read() == CONTENT.replace(b"Subject", b"X-Other")


def test_forks_and_forks_of_forks():
    message, state, seal = made()
    message.put_dword(0x8000, 7)
    fork, recipients = message.ForkForRecipients()
    recipients.add_primary("dan@d.example")
    assert fork.GetDWORD(0x8000) == 7
    assert [one.address for one in fork.recipients] == ["dan@d.example"]
    fork.rebind_after_fork(message)
    fork.write_content(0, b"X-Forked")
    message.write_content(0, b"X-Parent")
    inner, inner_list = fork.fork_for_recipients()
    inner_list.add_primary("eva@e.example")
    inner.recipients.write_list(inner_list)
    empty, _ = message.fork_for_recipients()
    empty.write_content(0, b"X-Nobody")
    seal.close()
    assert state.rewritten.read(0, 8) == b"X-Parent"
    forks = [(fork.recipients[0][IMMPID_RP.ADDRESS_SMTP], fork.content.read(0, 8)) for fork in state.forks]
    assert forks == [(b"dan@d.example\0", b"X-Forked"), (b"eva@e.example\0", b"X-Forked")]


# ── the end of a call ──────────────────────────────────────────────────────────────────────────────────────────────


def test_after_the_call_nothing_can_be_used():
    message, state, seal = made()
    recipients, one = message.recipients, message.recipients[0]
    fork, added = message.fork_for_recipients()
    mapped = message.map_content(write=True)
    management = message.query_interface("IMailMsgPropertyManagement")
    before = (dict(state.properties), [dict(bag) for bag in state.recipients])
    seal.close()
    seal.close()
    for call in (
        lambda: message.put_dword(0x8000, 1),
        lambda: 0x8000 in message,
        lambda: message.sender,
        lambda: message.recipients,
        lambda: message.get_content_size(),
        lambda: message.read_content(),
        lambda: message.write_content(0, b"x"),
        lambda: message.unmap_content(mapped),
        lambda: message.fork_for_recipients(),
        lambda: message.commit(),
        lambda: message.refuse(),
        lambda: fork.write_content(0, b"x"),
        lambda: recipients.count(),
        lambda: recipients.alloc_new_list(),
        lambda: recipients.write_list(added),
        lambda: one.address,
        lambda: one.put_dword(0x8000, 1),
        lambda: added.add_primary("x@y.example"),
        lambda: management.alloc_prop_id_range("{00000001-6a7e-4057-9a7e-905700000101}", 1),
    ):
        with pytest.raises(CallOver):
            call()
    assert (state.properties, state.recipients) == before
    assert (state.rewritten, state.written_list, state.put) == (None, None, set())


def test_what_fails_at_the_end_closes_all_the_same():
    seal = Seal()
    seal.at_end(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        seal.close()
    with pytest.raises(CallOver):
        seal.check()
