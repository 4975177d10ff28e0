"""Exim as the next server: what it takes and refuses, greylists, and asks back before it takes anything."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator

import pytest

from house.peers import free_port
from house.premises import LOCAL, USER, Premises, fresh_mark, listener, message
from house.real_peers import Exim, asking, exim, name_server, relay, reports, route
from house.server_process import LOOPBACK, eventually
from programs import as_root

pytestmark = [
    pytest.mark.needs("exim4"),
    as_root,
]
FOREIGN = "dave@bobo.example"
BATV = """
[batv]
secret = ["0123456789abcdef"]
domains = ["example.org"]
"""


class Town:
    """A server in front of Exim, which calls it back at its port."""

    def __init__(self, gate: Premises, inner: Exim) -> None:
        self.gate, self.inner = gate, inner

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP(LOOPBACK, self.gate.port("mx"), "client.example", timeout=30)

    def send(self, to: list[str], text: str, sender: str = USER, options: tuple[str, ...] = ()) -> str:
        """The ticket."""
        with self.client() as client:
            client.ehlo()
            assert client.mail(sender, [*options])[0] == 250
            for one in to:
                assert client.rcpt(one)[0] == 250
            code, said = client.data(text.encode())
            assert code == 250, said
            return said.decode().split()[-1]

    def arrived(self, mark: str) -> bytes:
        eventually(lambda: self.inner.mail(mark))
        [content] = self.inner.mail(mark)
        return content

    def taken(self, mark: str) -> str:
        """What Exim's log says of a message when it was taken."""
        [line] = [line for line in self.inner.log().splitlines() if " <= " in line and mark in line]
        return line


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    ours = free_port()
    domains = [f"{name}.exim.example" for name in ("mx", "far")]
    zone = {**{domain: {"MX": ["10 in.exim.example."]} for domain in domains}, "in.exim.example": {"A": [LOOPBACK]}}
    with exim(ours) as inner, name_server(zone) as names:
        by_mx = f'{{ by = "mx", port = {inner.port}, allow_private = true }}'
        over = f'{{ by = "relay", hosts = ["{LOOPBACK}:{inner.port}"] }}'
        gate = Premises(
            tmp_path_factory.mktemp("exim"),
            BATV,
            asking(names),
            listener("mx", address=f"{LOOPBACK}:{ours}"),
            LOCAL,
            relay("relay.exim.example", inner.port, 'tls = "encrypt"'),
            relay("plain.exim.example", inner.port, 'tls = "none"'),
            route("mx.exim.example", by_mx),
            route("over.exim.example", over, handover="before-reply"),
            f'[[route]]\nmatch = "*"\nfor = ["{LOOPBACK}/32"]\ndeliver = {by_mx}\n',
        )
        with gate.running():
            yield Town(gate, inner)


@pytest.mark.parametrize("way", ["relay", "plain", "mx", "over"])
def test_taken_whole_and_once(town: Town, way: str) -> None:
    mark = fresh_mark()
    text = message(mark, body=".\r\n..dots\r\n" + "ä" * 300 + "\r\n" + "line of mail\r\n" * 3000)
    to = [f"ann@{way}.exim.example", f"bob@{way}.exim.example"]
    ticket = town.send(to, text, options=("BODY=8BITMIME",))
    content = town.arrived(mark)
    assert content.endswith(text.replace("\r\n", "\n").encode())
    assert f"Envelope-to: {to[0]},\n {to[1]}\n".encode() in content, "they share a transaction"
    eventually(lambda: f"{way}.exim.example" not in town.gate.ask("queue", "list"))
    assert len(town.inner.mail(mark)) == 1
    log = town.taken(mark)
    assert (" P=esmtps " in log) == (way != "plain")
    assert " M8S=8 " in log, "BODY=8BITMIME"
    assert " K " in log, "by BDAT, which Exim offers"
    assert (" PRDR " in log) == (way != "over"), "a reply for each, unless it is for all or nobody"
    id_there = re.search(r" (\w{6}-\w{6}-\w{2}) <= ", log)
    assert id_there
    if way == "over":
        assert ticket == f"id={id_there[1]}", "the sender hears Exim's own words"
    else:
        eventually(lambda: f"id={id_there[1]}" in town.gate.ask("explain", ticket))


def test_some_recipients_refused_and_one_greylisted(town: Town) -> None:
    mark = fresh_mark()
    to = [f"{name}@relay.exim.example" for name in ("nobody", "grey", "bob")]
    ticket = town.send(to, message(mark))
    eventually(lambda: len(town.inner.mail(mark)) == 2)
    story = eventually(lambda: (found := town.gate.ask("explain", ticket)).count("  delivered ") == 2 and found)
    assert re.search(r"  bounced    <nobody@\S+>  \S+  \S+  550 5\.1\.1 no such user here", story)
    assert re.search(r"  deferred   <grey@\S+>  \S+  \S+  451 4\.7\.1 greylisted, come back", story)
    [first, second] = sorted(
        re.findall(r"Envelope-to: (\w+)@", content.decode())[0] for content in town.inner.mail(mark)
    )
    assert (first, second) == ("bob", "grey")
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    [failed] = report.recipients
    assert (failed["Final-Recipient"], failed["Status"]) == ("rfc822; nobody@relay.exim.example", "5.1.1")


def test_content_refused_for_one_of_two(town: Town) -> None:
    """By PRDR: a report about one, and the other has it once."""
    mark = fresh_mark()
    ticket = town.send(["ann@relay.exim.example", "picky@relay.exim.example"], message(mark))
    content = town.arrived(mark)
    assert b"Envelope-to: ann@relay.exim.example\n" in content
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    [failed] = report.recipients
    assert failed["Final-Recipient"] == "rfc822; picky@relay.exim.example"
    assert "not to the taste of this one" in failed["Diagnostic-Code"]
    story = town.gate.ask("explain", ticket)
    assert (story.count("  delivered "), story.count("  bounced ")) == (1, 1)
    assert "relay.exim.example" not in town.gate.ask("queue", "list")


def test_content_refused(town: Town) -> None:
    mark = fresh_mark()
    text = message(f"{mark} distasteful")
    town.send(["ann@relay.exim.example", "bob@relay.exim.example"], text)
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    assert [one["Diagnostic-Code"] for one in report.recipients] == ["smtp; 550 5.7.1 distasteful"] * 2
    with town.client() as client, pytest.raises(smtplib.SMTPDataError) as error:
        client.sendmail(FOREIGN, ["ann@over.exim.example"], text)
    assert (error.value.smtp_code, b"distasteful" in error.value.smtp_error) == (550, True)
    assert town.inner.mail(mark) == []


def test_too_large_is_known_before_it_is_sent(town: Town) -> None:
    mark = fresh_mark()
    town.send(["ann@relay.exim.example"], message(mark, body="line of mail\r\n" * 100_000))
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    assert report.recipients[0]["Status"] == "5.3.4"
    assert report.recipients[0]["Action"] == "failed"
    assert mark not in town.inner.log()


def test_a_sender_is_asked_back(town: Town) -> None:
    """Exim's callout: it asks us for the sender at RCPT, while our own session waits."""
    known, unknown = fresh_mark(), fresh_mark()
    town.send(["called@relay.exim.example"], message(known))
    town.arrived(known)
    ticket = town.send(["called@relay.exim.example"], message(unknown), sender="nosuch@example.org")
    story = eventually(lambda: "bounced" in (found := town.gate.ask("explain", ticket)) and found)
    assert len(story.splitlines()) < 8
    assert "Verification failed for <nosuch@example.org> Called:" in story
    assert town.inner.mail(unknown) == []


def test_a_signed_sender_is_known_and_a_report_to_it_comes_home(town: Town) -> None:
    mark = fresh_mark()
    ticket = town.send(["called@far.exim.example"], message(mark))
    content = town.arrived(mark)
    signed = re.search(rb"Return-path: <(prvs=[0-9a-z]+=ann@example\.org)>", content)
    assert signed, content
    address = signed[1].decode()
    with town.client() as client:
        client.ehlo()
        client.mail("")
        assert client.rcpt(address)[0] == 250
        assert client.rcpt(re.sub(r"=(\w+)=", "=0123abcdef=", address))[0] == 550
        assert client.data(message(f"{mark} bounced").encode())[0] == 250
    assert b"\nDelivered-To: ann@example.org\n" in town.gate.delivered(f"{mark} bounced")
    assert "  delivered " in town.gate.ask("explain", ticket)
