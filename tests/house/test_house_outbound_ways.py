"""What mail carries on its way out, and which way it goes: signatures, return paths, plugins, proxies, addresses,
suspended destinations, and a message that wants TLS to its end.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dkim
import dns.message
import dns.query
import pytest
import trustme

from gatepost.content.dkim_keys import Algorithm, load_key, make_key
from house.peers import Sink, smtp_sink
from house.premises import LOCAL, USER, Premises, fresh_mark, listener, message
from house.real_peers import asking, certificate, name_server, proxy, relay, reports, route, scripted
from house.server_process import LOOPBACK, eventually
from unit.delivery.delivery_peer import TLS, Peer, polite
from unit.net.name_server import NameServer
from unit.net.proxy_peer import ProxyPeer

pytestmark = pytest.mark.needs("smtp-sink")

FOREIGN = "dave@bobo.example"  # no domain of ours: no route names it
SIGNING = """
[[dkim]]
domain = "example.org"
[[dkim.key]]
selector = "old"
file = "old.pem"
[[dkim.key]]
selector = "new"
file = "new.pem"
[srs]
domain = "example.org"
secret = ["0123456789abcdef"]
[batv]
secret = ["fedcba9876543210"]
domains = ["example.org"]
[smtp]
requiretls = true
"""
PLUGIN = """
from gatepost import fail, on, skip


@on("out-session", rule="ehlo=127.0.0.1", when={"listener": "plugged"})
async def choose(event):
    event.introduce_as("plugged.example.org")


@on("out-message", rule="rcpt to=*@plugged.example")
async def mark(event):
    event.add_header("X-Sent-By", event.server.hostname, at=0)


@on("out-recipient", rule="rcpt to=*@plugged.example")
async def judge(event):
    if event.recipient.local == "never":
        return fail(550, "5.7.1", "not to them")
    if event.recipient.local == "later" and event.session.peer is not None:
        return skip()
"""


def send(gate: Premises, mark: str, *to: str, sender: str = USER, body: str = "hello\r\n") -> str:
    """The ticket."""
    with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example", timeout=30) as client:
        client.ehlo()
        client.mail(sender)
        for one in to:
            code, said = client.rcpt(one)
            assert code == 250, said
        text = message(mark, to=to[0], sender=sender or "mailer@bobo.example", body=body)
        return client.data(text.encode())[1].decode().split()[-1]


class Town:
    def __init__(self, gate: Premises, names: NameServer, sink: Sink, through: ProxyPeer, plain: Peer) -> None:
        self.gate, self.names, self.sink, self.through, self.plain = (
            gate,
            names,
            sink,
            through,
            plain,
        )

    def arrived(self, mark: str) -> bytes:
        """The message at the sink, with what it noted of the session above it."""
        eventually(lambda: [one for one in self.sink.taken() if mark.encode() in one])
        [content] = [one for one in self.sink.taken() if mark.encode() in one]
        return content


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("ways")
    (folder / "plugin.py").write_text(PLUGIN)
    zone = {domain: {"MX": ["10 in.far.example."]} for domain in ("far.example", "bobo.example")}
    zone["in.far.example"] = {"A": [LOOPBACK]}
    for selector, algorithm in ("old", Algorithm.RSA), ("new", Algorithm.ED25519):
        pem = make_key(algorithm)[1]
        (folder / f"{selector}.pem").write_bytes(pem)
        (folder / f"{selector}.pem").chmod(0o600)
        record = load_key(pem).public_record()
        pieces = " ".join(f'"{record[at : at + 200]}"' for at in range(0, len(record), 200))
        zone[f"{selector}._domainkey.example.org"] = {"TXT": [pieces]}
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "trusted.pem"))
    tls.load_cert_chain(*certificate(folder, "localhost", authority=authority))
    over_tls = polite(("STARTTLS", TLS), offers="PIPELINING,STARTTLS")
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("SSL_CERT_FILE", str(folder / "trusted.pem"))
        sink = stack.enter_context(smtp_sink("-N"))
        names = stack.enter_context(name_server(zone))
        through = stack.enter_context(proxy(ProxyPeer(login=("ann", "sesame"))))
        plain = stack.enter_context(scripted(over_tls, tls=tls))
        by_mx = f'{{ by = "mx", port = {sink.port}, allow_private = true }}'
        gate = Premises(
            folder,
            asking(names),
            SIGNING,
            listener("mx"),
            LOCAL,
            relay("plugged.example", sink.port),
            relay("proxied.example", sink.port, f'proxy = "socks5://ann:sesame@{LOOPBACK}:{through.port}"'),
            relay("source.example", sink.port, 'source = "127.0.0.2", helo = "two.example.org"'),
            route("weak.example", f'{{ by = "relay", hosts = ["localhost:{plain.port}"], tls = "required" }}'),
            relay("bare.example", sink.port),
            f'[[route]]\nmatch = "*"\nfor = ["{LOOPBACK}/32"]\ndeliver = {by_mx}\n',
            '[[plugin]]\nname = "outgoing"\nsource = "plugin.py"\n',
        )
        with gate.running():
            yield Town(gate, names, sink, through, plain)


def test_a_signature_verifies_by_what_the_dns_says(town: Town) -> None:
    mark = fresh_mark()
    body = "ä.\r\n.dots, and  spaces \t\r\n" * 50 + "\r\n\r\n"
    ticket = send(town.gate, mark, "x@far.example", body=body)
    content = town.arrived(mark).partition(b"\nReceived: ")[2].partition(b"\n\n")[0]
    assert content.count(b"\nDKIM-Signature:") == 2
    story = town.gate.ask("explain", ticket)
    assert "dkim=" in story
    wire = _as_sent(town.arrived(mark))

    def ask(name: bytes, timeout: int = 5) -> bytes:
        query = dns.message.make_query(name.decode(), "TXT")
        answer, _ = dns.query.udp_with_fallback(query, LOOPBACK, timeout, port=town.names.port)
        return b"".join(answer.answer[0][0].strings)

    for number in range(2):
        assert dkim.DKIM(wire).verify(number, dnsfunc=ask)
    forged = wire.replace(f"Subject: {mark}".encode(), b"Subject: won")
    assert not dkim.DKIM(forged).verify(0, dnsfunc=ask)
    assert {name for name, kind in town.names.asked if kind == "TXT"} >= {
        "old._domainkey.example.org",
        "new._domainkey.example.org",
    }


def _as_sent(noted: bytes) -> bytes:
    """What went over the wire: smtp-sink writes fields of its own above it, and one line feed below."""
    lines = noted.split(b"\n")
    begin = next(
        number for number, line in enumerate(lines) if line.startswith((b"DKIM-Signature:", b"Received: from client"))
    )
    return b"\r\n".join(lines[begin:]).removesuffix(b"\r\n")


def test_forwarded_mail_has_a_return_path_of_ours_and_its_bounce_comes_back(town: Town) -> None:
    mark = fresh_mark()
    send(town.gate, mark, "x@far.example", sender=FOREIGN)
    found = re.search(rb"X-Mail-Args: <(SRS0=[^>]+=bobo\.example=dave@example\.org)>", town.arrived(mark))
    assert found, town.arrived(mark)
    back = fresh_mark()
    send(town.gate, back, found[1].decode(), sender="")
    bounce = town.arrived(back)
    assert f"X-Rcpt-Args: <{FOREIGN}>".encode() in bounce
    assert b"X-Mail-Args: <>" in bounce
    with smtplib.SMTP(LOOPBACK, town.gate.port("mx"), "client.example", timeout=30) as client:
        client.ehlo()
        client.mail("")
        assert client.rcpt(found[1].decode().replace("=bobo.", "=evil."))[0] == 550
        client.rset()
        client.mail(FOREIGN)
        assert client.rcpt(found[1].decode())[0] == 550


def test_a_signed_return_path_finds_home(town: Town) -> None:
    mark = fresh_mark()
    send(town.gate, mark, "x@far.example")
    found = re.search(rb"X-Mail-Args: <(prvs=[^>]+=ann@example\.org)>", town.arrived(mark))
    assert found, town.arrived(mark)
    back = fresh_mark()
    send(town.gate, back, found[1].decode(), sender="")
    town.gate.delivered(back)


def test_a_plugin_on_the_way_out_and_explain_tells_it(town: Town) -> None:
    mark = fresh_mark()
    ticket = send(town.gate, mark, *(f"{name}@plugged.example" for name in ("bob", "never", "later")))
    content = town.arrived(mark)
    assert b"\nX-Sent-By: mx.example.org\n" in content
    assert b"X-Rcpt-Args: <bob@plugged.example>" in content
    assert b"never@" not in content.partition(b"\nReceived:")[0]
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    assert [one["Final-Recipient"] for one in report.recipients] == ["rfc822; never@plugged.example"]
    assert "not to them" in report.text
    story = town.gate.ask("explain", ticket)
    assert re.search(r"bounced    <never@plugged\.example> .* 550 5\.7\.1 not to them", story), story
    assert re.search(r"delivered  <bob@plugged\.example> ", story), story
    assert re.search(r"out-recipient outgoing .* FAIL  550 5\.7\.1 not to them; <never@", story), story
    assert re.search(r"out-recipient outgoing .* skip  <later@", story), story
    assert re.search(r"deferred   <later@plugged\.example> ", story), story
    assert f"{ticket}  " in town.gate.ask("queue", "list", "--to", "later@plugged.example")
    town.gate.ask("queue", "delete", ticket)


def test_through_a_proxy(town: Town) -> None:
    mark = fresh_mark()
    send(town.gate, mark, "x@proxied.example")
    town.arrived(mark)
    assert town.through.asked == [(LOOPBACK, town.sink.port)]
    assert town.through.as_user == [("ann", "sesame")]


def test_the_address_called_from(town: Town) -> None:
    mark = fresh_mark()
    send(town.gate, mark, "x@source.example")
    content = town.arrived(mark)
    assert b"X-Client-Addr: 127.0.0.2\n" in content
    assert b"X-Helo-Args: two.example.org\n" in content


def send_over_tls_to_the_end(gate: Premises, mark: str, to: str) -> str:
    """A message that is to go on over TLS only; its ticket."""
    with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example", timeout=30) as client:
        client.ehlo()
        assert not client.has_extn("requiretls")
        client.starttls(context=ssl.create_default_context(cafile=gate.ca))
        client.ehlo()
        assert client.has_extn("requiretls")
        assert client.mail(USER, ["REQUIRETLS"])[0] == 250
        assert client.rcpt(to)[0] == 250
        code, said = client.data(message(mark, body="secret\r\n").encode())
        assert code == 250
        return said.decode().split()[-1]


def test_a_server_that_promises_no_tls_to_the_end_gets_nothing(town: Town) -> None:
    mark = fresh_mark()
    send_over_tls_to_the_end(town.gate, mark, "x@weak.example")
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    assert report.recipients[0]["Status"] == "5.7.30"
    assert b"secret" not in report.message.as_bytes()  # rfc8689#5
    assert not any(mark.encode() in one for one in town.plain.mail)


def test_a_server_without_tls_doesnt_get_it_either(town: Town) -> None:
    mark = fresh_mark()
    ticket = send_over_tls_to_the_end(town.gate, mark, "x@bare.example")
    story = eventually(lambda: "  deferred " in (found := town.gate.ask("explain", ticket)) and found)
    assert "4.7.10" in story
    assert not any(mark.encode() in one for one in town.sink.taken())
    town.gate.ask("queue", "delete", ticket)


def test_the_same_server_gets_what_doesnt_want_it(town: Town) -> None:
    mark = fresh_mark()
    send(town.gate, mark, "x@weak.example")
    eventually(lambda: any(mark.encode() in one for one in town.plain.mail))
    assert town.plain.under_tls[-1]


def test_a_suspended_destination_in_all_workers(tmp_path: Path) -> None:
    marks = [fresh_mark() for _ in range(6)]
    with smtp_sink() as sink, scripted(polite()) as other:
        premises = Premises(
            tmp_path,
            listener("mx"),
            relay("wait.example", sink.port),
            relay("open.example", other.port),
            workers=2,
        )
        with premises.running() as gate:
            gate.ask("queue", "suspend", "wait.example")
            for mark in marks:  # a connection each, so that both workers have some
                send(gate, mark, "x@wait.example")
            gate.ask("queue", "flush")
            send(gate, "through", "x@open.example")
            eventually(lambda: len(other.mail) == 1)
            assert re.search(r" 6 .* wait\.example +SUSPENDED since", gate.ask("queue", "destinations"))
            assert sink.taken() == []
            gate.ask("queue", "resume", "wait.example")
            eventually(lambda: len(sink.taken()) == len(marks))
        assert all(sum(mark.encode() in one for one in sink.taken()) == 1 for mark in marks)
