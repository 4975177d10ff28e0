"""Postfix as the next server, by relay and by MX: what it offers is used, and what it refuses is told."""

from __future__ import annotations

import hashlib
import re
import smtplib
from collections.abc import Iterator
from email import message_from_bytes

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from house.peers import free_port
from house.postfix_server import Postfix, postfix
from house.premises import LOCAL, USER, Premises, fresh_mark, listener, message
from house.real_peers import asking, certificate, name_server, relay, reports, route
from house.server_process import LOOPBACK, eventually
from programs import as_root

pytestmark = [
    pytest.mark.needs("postfix", "smtp-sink"),
    as_root,
]
FOREIGN = "dave@bobo.example"
NOBODY = "{nobody@relay.example=550 5.1.1 not here}"
DOMAINS = ["relay.example", "plain.example", "mx.example", "dane.example", "stranger.example"]


class Town:
    def __init__(self, gate: Premises, inner: Postfix) -> None:
        self.gate, self.inner = gate, inner

    def send(self, to: dict[str, str], text: str, *options: str, sender: str = USER) -> str:
        """To these recipients with their parameters; the ticket."""
        with smtplib.SMTP(LOOPBACK, self.gate.port("mx"), "client.example", timeout=30) as client:
            client.ehlo()
            client.command_encoding = "utf-8"
            assert client.mail(sender, [*options])[0] == 250
            for one, wishes in to.items():
                code, said = client.rcpt(one, [wishes] if wishes else [])
                assert code == 250, said
            code, said = client.data(text.encode())
            assert code == 250, said
            return said.decode().split()[-1]

    def passed_on(self, mark: str) -> list[bytes]:
        """The messages with this mark that Postfix has passed on."""
        return [one for one in self.inner.sink.taken() if mark.encode() in one]

    def sessions(self) -> list[str]:
        """What Postfix's log says of each session of ours that has ended: the commands and how many."""
        return [
            line for line in self.inner.log().splitlines() if " disconnect from unknown" in line and "mail=" in line
        ]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("postfix")
    port = free_port()
    chain, key = certificate(folder, "in.postfix.example")
    public = load_pem_x509_certificate(chain.read_bytes()).public_key()
    digest = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    zone = {
        "mx.example": {"MX": ["10 away.postfix.example.", "20 in.postfix.example."]},
        "away.postfix.example": {"A": ["127.0.0.9"]},
        "in.postfix.example": {"A": [LOOPBACK]},
        "dane.example": {"MX": ["10 in.secure.example."]},
        "in.secure.example": {"A": [LOOPBACK]},
        f"_{port}._tcp.in.secure.example": {"TLSA": [f"3 1 1 {digest}"]},
        "stranger.example": {"MX": ["10 in.other.example."]},
        "in.other.example": {"A": [LOOPBACK]},
        f"_{port}._tcp.in.other.example": {"TLSA": [f"3 1 1 {'00' * 32}"]},
    }
    parameters = {
        "relay_domains": ", ".join(DOMAINS),
        "smtpd_recipient_restrictions": f"check_recipient_access inline:{{{NOBODY}}}, permit",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": str(chain),
        "smtpd_tls_key_file": str(key),
        "smtpd_tls_received_header": "yes",
        "message_size_limit": "200000",
        "smtp_discard_ehlo_keywords": "dsn",  # so that Postfix itself is the last to know DSN
        "smtputf8_enable": "yes",
    }
    with postfix(port=port, **parameters) as inner, name_server(zone) as names:
        names.secure |= {"dane.example", "secure.example", "stranger.example", "other.example"}
        mx = f'{{ by = "mx", port = {port}, allow_private = true }}'
        gate = Premises(
            folder,
            asking(names),
            listener("mx"),
            LOCAL,
            relay("relay.example", port, 'tls = "encrypt"'),
            relay("plain.example", port, 'tls = "none"'),
            *(route(domain, mx) for domain in ("mx.example", "dane.example", "stranger.example")),
            delivery='first = "1s"\nreuse = 0',
        )
        with gate.running():
            yield Town(gate, inner)


@pytest.mark.parametrize(
    ("domain", "tls"), [("relay.example", True), ("plain.example", False), ("mx.example", True), ("dane.example", True)]
)
def test_taken_whole_and_once(town: Town, domain: str, tls: bool) -> None:
    mark = fresh_mark()
    body = ".\r\n..dots\r\n" + "ä" * 300 + "\r\n" + "line of mail\r\n" * 3000
    ticket = town.send({f"{name}@{domain}": "" for name in ("ann", "bob")}, message(mark, body=body), "BODY=8BITMIME")
    eventually(lambda: town.passed_on(mark))
    eventually(lambda: town.gate.ask("explain", ticket).count("  delivered ") == 2)
    [content] = town.passed_on(mark)
    assert message_from_bytes(content).get_payload(decode=True).rstrip() == body.replace("\r\n", "\n").encode().rstrip()
    assert (b"(using TLS" in content) == tls
    assert b"X-Rcpt-Args: <ann@" in content
    assert b"X-Rcpt-Args: <bob@" in content, "they share a transaction"
    assert any("rcpt=2 bdat=1" in line and ("starttls=1" in line) == tls for line in town.sessions())


def test_a_certificate_that_isnt_the_one_in_the_dns_gets_no_mail(town: Town) -> None:
    mark = fresh_mark()
    ticket = town.send({"ann@stranger.example": ""}, message(mark))
    story = eventually(lambda: "  deferred " in (found := town.gate.ask("explain", ticket)) and found)
    assert "451 4.7.5" in story, story
    assert town.passed_on(mark) == []
    assert "  delivered " not in town.gate.ask("explain", ticket)
    town.gate.ask("queue", "delete", ticket)


def test_one_of_several_is_refused(town: Town) -> None:
    mark = fresh_mark()
    to = {f"{name}@relay.example": "" for name in ("ann", "nobody", "bob")}
    town.send(to, message(mark))
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    [failed] = report.recipients
    assert failed["Final-Recipient"] == "rfc822; nobody@relay.example"
    assert failed["Status"] == "5.1.1"
    assert re.fullmatch(r"smtp; 550 5\.1\.1 <nobody@relay\.example>: .*not here", failed["Diagnostic-Code"])
    eventually(lambda: town.passed_on(mark))
    [content] = town.passed_on(mark)
    assert re.findall(rb"X-Rcpt-Args: <(\w+)@", content) == [b"ann", b"bob"]


def test_too_large_is_known_before_it_is_sent(town: Town) -> None:
    mark = fresh_mark()
    town.send({"ann@relay.example": ""}, message(mark, body="line of mail\r\n" * 20_000))
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    assert (report.recipients[0]["Action"], report.recipients[0]["Status"]) == ("failed", "5.3.4")
    assert town.passed_on(mark) == []


def test_what_the_sender_wants_to_hear_is_passed_on_and_postfix_reports(town: Town) -> None:
    mark = fresh_mark()
    wish = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@there.example"
    town.send({"ann@relay.example": wish}, message(mark), "ENVID=QQ+2B1", "RET=FULL", sender=FOREIGN)
    eventually(lambda: len(town.passed_on(mark)) == 2)
    [report] = [one for one in town.passed_on(mark) if b"report-type=delivery-status" in one]
    assert b"X-Rcpt-Args: <dave@bobo.example>" in report
    assert b"Original-Envelope-Id: QQ+1" in report
    assert b"Original-Recipient: rfc822;first@there.example" in report
    assert b"Action: relayed" in report
    assert town.gate.ask("queue", "list").endswith("0 queued, 0 held\n"), "none of ours beside it"


def test_addresses_in_utf8(town: Town) -> None:
    mark = fresh_mark()
    ticket = town.send(
        {"jürgen@relay.example": ""}, message(mark), "SMTPUTF8", "BODY=8BITMIME", sender="jörg@bobo.example"
    )
    story = eventually(lambda: "  delivered " in (found := town.gate.ask("explain", ticket)) and found)
    assert "jürgen@relay.example" in story
    eventually(lambda: "to=<jürgen@relay.example>" in town.inner.log())
    assert "from=<jörg@bobo.example>" in town.inner.log()
