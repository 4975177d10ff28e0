"""Programs in the corners: odd envelopes, shadows, rules for one recipient, folders in wrong hands."""

import gc
import os

import pytest

from gatepost.app.settings.root import Settings
from gatepost.plugins.loaded import Wish
from gatepost.plugins.program import PROGRAM_LIMITS, ProgramOptions, load_program
from gatepost.plugins.program.running import ProgramFailed, Runner
from gatepost.testing.rig import Rig
from unit.plugins_program.program_scripts import MESSAGE, asked, script

LARGE = MESSAGE + b"0123456789\r\n" * 10_000


async def conversation(client, recipients, sender="dave@bobo.example", message=MESSAGE, hello="EHLO", more=""):
    """The replies to the content: one, or one for each recipient and PRDR's last."""
    await client.reply()
    await client.command(f"{hello} x.example")
    utf8 = "" if all(one.isascii() for one in (sender, *recipients)) else " SMTPUTF8"
    for line in (f"MAIL FROM:<{sender}>{utf8}{more}", *(f"RCPT TO:<{one}>" for one in recipients)):
        assert (await client.command(line))[:3] == "250", line
    await client.command("DATA")
    return await client.content(message)


@pytest.mark.parametrize("mode", ["filter", "qfilter", "pickup"])
async def test_a_thousand_long_recipients(tmp_path, mode):
    """More than one variable of the environment may hold."""
    recipients = [f"{'r' * 50}{number:04}@{'d' * 60}.{'d' * 60}.example" for number in range(1000)]
    source = script(tmp_path, 'echo "X-Many: $NUMRCPTS, $(printf %s "$QMAILRCPTS" | wc -l)"; cat')
    loaded = await load_program(str(source), options=ProgramOptions(mode=mode), wishes=[Wish(timeout=30.0)])
    async with Rig([loaded]) as rig:
        heard = await conversation(rig.connect(), recipients)
        assert not rig.records.errors
        assert heard.startswith("250 ")
        (entry,) = await rig.spool.entries()
        assert len(entry.envelope.recipients) == 1000
        if mode != "pickup":
            assert entry.content.read().startswith(b"X-Many: 1000, 0\r\n")


ODD = ['"a b"@example.org', '"a;b"@example.org', '"a]; [SMTP:x"@example.org', '"a][b"@example.org', '"a@b"@example.org',
       "jürgen@example.org", "-rf@example.org", '"(x"@example.org']  # fmt: skip


@pytest.mark.parametrize("address", ODD)
async def test_a_pickup_that_changes_something_else_keeps_odd_addresses(tmp_path, address):
    source = script(
        tmp_path,
        'cd "$GATEPOST_PICKUP/QUEUES/$2/Inbound"; sed -i s/^Status=.*/Status=Undelivered/ "$1"',
    )
    loaded = await load_program(str(source), options=ProgramOptions(mode="pickup"))
    async with Rig([loaded]) as rig:
        heard = await conversation(rig.connect(), [address, "bob@example.org"], sender=address)
        assert not rig.records.errors
        assert heard.startswith("250 ")
        (entry,) = await rig.spool.entries()
        assert [str(one) for one in entry.envelope.recipients] == [address, "bob@example.org"]
        assert str(entry.envelope.sender) == address


@pytest.mark.parametrize("address", ODD)
async def test_a_pickup_may_add_a_recipient_beside_odd_ones(tmp_path, address):
    source = script(
        tmp_path,
        'cd "$GATEPOST_PICKUP/QUEUES/$2/Inbound"; sed -i "s/^Recipients=/&[SMTP:new@example.org]; /" "$1"',
    )
    loaded = await load_program(str(source), options=ProgramOptions(mode="pickup"))
    async with Rig([loaded]) as rig:
        heard = await conversation(rig.connect(), [address, "bob@example.org"])
        assert not rig.records.errors
        assert heard.startswith("250 ")
        (entry,) = await rig.spool.entries()
        assert sorted(str(one) for one in entry.envelope.recipients) == sorted(
            [address, "bob@example.org", "new@example.org"]
        )


@pytest.mark.parametrize("address", ODD)
async def test_a_qfilter_gives_back_odd_addresses(tmp_path, address):
    source = script(tmp_path, "cat <&3 >&4; cat")
    loaded = await load_program(str(source), options=ProgramOptions(mode="qfilter"))
    async with Rig([loaded]) as rig:
        assert (await conversation(rig.connect(), [address], sender="")).startswith("250 ")
        (entry,) = await rig.spool.entries()
        assert [str(one) for one in entry.envelope.recipients] == [address]
        assert not entry.envelope.sender


@pytest.mark.parametrize("message", [MESSAGE, LARGE])
async def test_a_shadow_is_well_though_the_transaction_is_over(tmp_path, message):
    """What it gives back is told in the trace, and kept nowhere."""
    loaded = await load_program(
        str(script(tmp_path, "echo X-New: 1; cat")), wishes=[Wish(shadow=True)], scratch=tmp_path
    )
    async with Rig([loaded]) as rig:
        client = rig.connect()
        assert (await conversation(client, ["ann@example.org"], message=message)).startswith("250 ")
        await client.command("QUIT")
        await rig.settled()
        assert rig.records.errors == []
        (shadow,) = [facts for facts in rig.records.kinds("asked") if facts.get("shadow")]
        assert "+ X-New: 1" in str(shadow["edits"])
        gc.collect()
        assert [one for folder in tmp_path.glob("gatepost-*") for one in folder.iterdir()] == []


@pytest.mark.parametrize("way", ["lmtp", "prdr"])
async def test_a_rule_for_one_recipient_refuses_and_tells_of_that_one(tmp_path, way):
    source = script(tmp_path, f'printf %s "$QMAILRCPTS" > {tmp_path}/told; exit 100')
    loaded = await load_program(str(source), wishes=[Wish(rule="rcpt to=bob@example.org")])
    listen = [{"name": "in", "address": "127.0.0.1:0", "protocol": "lmtp" if way == "lmtp" else "smtp"}]
    async with Rig([loaded], settings=Settings.in_memory(hostname="mx.test", listen=listen)) as rig:
        client = rig.connect()
        hello, more = ("LHLO", "") if way == "lmtp" else ("EHLO", " PRDR")
        heard = [await conversation(client, ["ann@example.org", "bob@example.org"], hello=hello, more=more)]
        heard += [await client.reply() for _ in range(1 if way == "lmtp" else 3)]
        codes = [reply[:3] for reply in heard]
        assert codes == ["250", "554"] if way == "lmtp" else codes == ["353", "250", "554", "250"]
        assert (tmp_path / "told").read_text() == "bob@example.org\n"
        (entry,) = await rig.spool.entries()
        assert [str(one) for one in entry.envelope.recipients] == ["ann@example.org"]


async def test_two_transactions_and_rset(tmp_path):
    source = script(tmp_path, 'echo "X-For: $_SENDER $(echo $QMAILRCPTS)"; cat')
    async with Rig([await load_program(str(source))]) as rig:
        client = rig.connect()
        await client.reply()
        for line in ("EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<lost@example.org>", "RSET"):
            await client.command(line)
        for number in (1, 2):
            await client.command("MAIL FROM:<>")
            await client.command(f"RCPT TO:<n{number}@example.org>")
            await client.command("DATA")
            assert (await client.content(MESSAGE)).startswith("250 ")
        firsts = [entry.content.read().partition(b"\r\n")[0] for entry in await rig.spool.entries()]
        assert sorted(firsts) == [b"X-For:  n1@example.org", b"X-For:  n2@example.org"]


@pytest.mark.parametrize("content", [b"", b"\r\n", b"x\r\n"])
async def test_messages_of_nothing(tmp_path, content):
    assert (await asked(script(tmp_path, "cat"), message=content)).accepted()


async def test_forty_megabytes(tmp_path):
    large = MESSAGE + b"a line of seventy octets or so, and very many of them follow it here\r\n" * 580_000
    source = script(tmp_path, "echo X-New: 1; cat")
    story = await asked(source, message=large)
    assert story.content.startswith(b"X-New: 1\r\n") and body_size(story) == len(large)


def body_size(story):
    return len(story.content) - story.content.index(b"From: Dave")


@pytest.mark.parametrize("way", ["rm -rf", "ln", "mkfifo", "chmod"])
@pytest.mark.parametrize("mode", ["filter", "qfilter", "scan", "pickup"])
async def test_whatever_becomes_of_its_folder_it_is_its_own_failure_or_none(tmp_path, mode, way):
    """The next message finds everything as it was, and nothing is left."""
    harm = {
        "rm -rf": 'rm -rf "$D"',
        "ln": 'rm -rf "$D"; ln -s /etc "$D"',
        "mkfifo": 'find "$D" -type f | while read f; do rm "$f"; mkfifo "$f"; done',
        "chmod": 'chmod -R 0 "$D"',
    }[way]
    place = (
        '"$GATEPOST_PICKUP"'
        if mode == "pickup"
        else '"$(dirname "$1")"'
        if mode == "scan"
        else '"$(dirname "$(readlink /proc/self/fd/0)")"'
    )
    source = script(
        tmp_path, f'D={place}; case "$_SENDER" in bad*) {harm};; esac; {"cat" if "filter" in mode else ":"}'
    )
    options = {"mode": mode} | ({"hit": "1"} if mode == "scan" else {})
    command = f"{source} {{EMAILFILESPEC}}" if mode == "scan" else str(source)
    loaded = await load_program(
        command, options=ProgramOptions(**options), scratch=tmp_path, wishes=[Wish(timeout=20.0)]
    )
    before = set(os.listdir("/proc/self/fd"))
    etc = sorted(os.listdir("/etc"))
    async with Rig([loaded]) as rig:
        (folder,) = tmp_path.glob("gatepost-*")
        assert (await conversation(rig.connect(), ["ann@example.org"], sender="bad@bobo.example"))[:3] in {"250", "451"}
        assert (await conversation(rig.connect(), ["ann@example.org"], message=LARGE)).startswith("250 ")
        assert (await conversation(rig.connect(), ["ann@example.org"])).startswith("250 ")
    assert not folder.exists()
    assert sorted(os.listdir("/etc")) == etc
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("what", ["fifo", "folder", "link", "nothing"])
async def test_what_stands_in_the_place_of_the_mail_is_not_waited_for(tmp_path, what):
    """Somebody's process that a filter has left behind could put it there before the next filter begins."""
    mail = tmp_path / "mail"
    {
        "fifo": lambda: os.mkfifo(mail),
        "folder": mail.mkdir,
        "link": lambda: mail.symlink_to("/dev/zero"),
        "nothing": lambda: None,
    }[what]()
    runner = Runner("cat", limits=PROGRAM_LIMITS, most=1, scratch=tmp_path)
    runner.open()
    before = set(os.listdir("/proc/self/fd"))
    try:
        async with runner.turn(1) as turn:
            with pytest.raises((ProgramFailed, OSError)):
                await turn.run(["/bin/cat"], {}, mail, most=1000, needs_all=True)
        assert set(os.listdir("/proc/self/fd")) == before
    finally:
        await runner.close()
