"""Mail handed on to the next server: aiosmtpd by SMTP and LMTP, Postfix's smtp-sink; queued, asked for, handed over."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from house.peers import NextServer, free_port, next_server, smtp_sink
from house.premises import PASSWORD, USER, Premises, fresh_mark, listener, message, run_client
from house.server_process import LOOPBACK, eventually
from programs import program

FOREIGN = "dave@bobo.example"


def route(domain: str, deliver: str, **more: str) -> str:
    keys = {"match": f"*@{domain}", "deliver": deliver, **more}
    return "[[route]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


class Town:
    """A gateway and every kind of next server behind it."""

    def __init__(self, gate: Premises, inner: NextServer, lmtp: NextServer, local: NextServer) -> None:
        self.gate, self.inner, self.lmtp, self.local = gate, inner, lmtp, local

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP(LOOPBACK, self.gate.port("mx"), "client.example", timeout=30)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("relay")
    socket = tmp_path_factory.mktemp("s") / "lmtp"
    with next_server() as inner, next_server(lmtp=True) as lmtp, next_server(lmtp=True, path=socket) as local:
        gate = Premises(
            folder,
            listener("mx"),
            listener("submission", "submission"),
            route("queued.example", f"relay {LOOPBACK}:{inner.port}", recipients="any"),
            route("asked.example", f"relay {LOOPBACK}:{inner.port}", recipients="ask"),
            route("over.example", f"relay {LOOPBACK}:{inner.port}", recipients="ask", handover="before-reply"),
            route("lmtp.example", f"lmtp {LOOPBACK}:{lmtp.port}", recipients="any"),
            route("socket.example", f"lmtp {socket}", recipients="any"),
            route("down.example", f"relay {LOOPBACK}:{free_port()}", recipients="ask"),
            f'[[route]]\nmatch = "*@[{LOOPBACK}]"\nfor = "anyone"\n'
            f'deliver = {{ by = "mx", port = {inner.port}, allow_private = true }}\n',
            f'[[route]]\nmatch = "*"\ndeliver = "relay {LOOPBACK}:{inner.port}"\n',
        )
        with gate.running():
            yield Town(gate, inner, lmtp, local)


@pytest.mark.parametrize("which", ["queued", "lmtp", "socket"])
@pytest.mark.parametrize("octets", [100, 300_000])
def test_relayed_whole_and_once(town: Town, which: str, octets: int) -> None:
    mark = fresh_mark()
    line = ".dotted, and seventy-eight characters long, as lines of mail should be; no more\r\n"
    text = message(mark, body=line * (octets // len(line) + 1))
    peer = {"queued": town.inner, "lmtp": town.lmtp, "socket": town.local}[which]
    to = [f"ann@{which}.example", f"bob@{which}.example"]
    with town.client() as client:
        assert client.sendmail(FOREIGN, to, text) == {}
    eventually(lambda: peer.with_mark(mark))
    [(sender, recipients, content)] = peer.with_mark(mark)
    assert (sender, recipients) == (FOREIGN, to)
    assert content.startswith(b"Received: from client.example ")
    assert content.endswith(text.encode())
    eventually(lambda: f"@{which}.example" not in town.gate.ask("queue", "list"))


def test_a_refusal_of_the_next_server_is_tried_again_and_what_it_said_is_shown(town: Town) -> None:
    mark = fresh_mark()
    town.inner.says["DATA"] = "451 4.3.0 not just now"
    with town.client() as client:
        client.sendmail(FOREIGN, ["later@queued.example"], message(mark))
    eventually(lambda: "451 4.3.0 not just now" in town.gate.ask("queue", "list") or town.inner.with_mark(mark))
    eventually(lambda: town.inner.with_mark(mark))
    assert len(town.inner.with_mark(mark)) == 1


def test_recipients_are_asked_for_and_remembered(town: Town) -> None:
    town.inner.knows = {"ann@asked.example"}
    with town.client() as client:
        client.ehlo()
        client.mail(FOREIGN)
        assert client.rcpt("nobody@asked.example")[0] == 550
        assert client.rcpt("ann@asked.example")[0] == 250
        client.rset()
        before = len(town.inner.asked)
        client.mail(FOREIGN)
        assert client.rcpt("ann@asked.example")[0] == 250
        assert client.rcpt("nobody@asked.example")[0] == 550
        assert len(town.inner.asked) == before, "both answers are remembered"
        client.mail(FOREIGN)
        assert client.rcpt("ann@down.example")[0] == 450
    town.inner.knows = set()


def test_handed_over_before_the_reply(town: Town) -> None:
    mark = fresh_mark()
    town.inner.knows = {"ann@over.example", "bob@over.example"}
    with town.client() as client:
        refused = client.sendmail(FOREIGN, ["ann@over.example", "nobody@over.example"], message(mark))
        assert refused["nobody@over.example"][0] == 550
        [(_, recipients, content)] = town.inner.with_mark(mark)  # nothing was waited for: it is there before the 250
        assert recipients == ["ann@over.example"]
        assert content.endswith(message(mark).encode())
        town.inner.says["DATA"] = "554 5.7.1 the inner server finds it distasteful"
        with pytest.raises(smtplib.SMTPDataError) as error:
            client.sendmail(FOREIGN, ["ann@over.example", "bob@over.example"], message(mark))
        assert (error.value.smtp_code, b"distasteful" in error.value.smtp_error) == (554, True)
        town.inner.says["DATA"] = "451 4.3.2 come back later"
        with pytest.raises(smtplib.SMTPDataError) as error:
            client.sendmail(FOREIGN, ["bob@over.example"], message(mark))
        assert error.value.smtp_code == 451
        assert client.sendmail(FOREIGN, ["bob@over.example"], message(mark)) == {}
    assert len(town.inner.with_mark(mark)) == 2
    assert "over.example" not in town.gate.ask("queue", "list"), "what was handed over is never queued"
    town.inner.knows = set()


def test_only_who_has_authenticated_is_relayed_anywhere(town: Town) -> None:
    mark = fresh_mark()
    with town.client() as client:
        client.ehlo()
        client.mail(FOREIGN)
        assert client.rcpt("someone@elsewhere.example")[0] == 550
    with smtplib.SMTP(LOOPBACK, town.gate.port("submission"), "client.example", timeout=30) as client:
        client.starttls(context=ssl.create_default_context(cafile=town.gate.ca))
        client.login(USER, PASSWORD)
        assert client.sendmail(USER, ["someone@elsewhere.example"], message(mark, sender=USER)) == {}
    eventually(lambda: town.inner.with_mark(mark))


def test_by_mx_to_an_address_literal(town: Town) -> None:
    mark = fresh_mark()
    with town.client() as client:
        client.ehlo()
        client.mail(FOREIGN)
        assert client.rcpt(f"ann@[{LOOPBACK}]")[0] == 250
        ticket = client.data(message(mark))[1].decode().rpartition(" ")[2]
    eventually(lambda: town.inner.with_mark(mark))
    [(_, recipients, _)] = town.inner.with_mark(mark)
    assert recipients == [f"ann@[{LOOPBACK}]"]
    eventually(lambda: "  delivered " in town.gate.ask("explain", ticket))
    assert f"  {LOOPBACK}:{town.inner.port}  250 2.0.0 taken inside" in town.gate.ask("explain", ticket)


@pytest.mark.needs("smtp-sink", "smtp-source")
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
def test_smtp_source_through_the_gate_into_smtp_sink(tmp_path: Path, lmtp: bool) -> None:
    count = 200
    with smtp_sink(*(["-L"] if lmtp else [])) as sink:
        way = f"{'lmtp' if lmtp else 'relay'} {LOOPBACK}:{sink.port}"
        with Premises(tmp_path, listener("mx"), route("sink.example", way, recipients="any")).running() as gate:
            run_client(
                program("smtp-source"), "-d", "-s", "10", "-m", str(count), "-r", "2", "-l", "6000",
                "-f", FOREIGN, "-t", "ann@sink.example", f"{LOOPBACK}:{gate.port('mx')}",
            )  # fmt: skip
            eventually(lambda: "0 queued, 0 held" in gate.ask("queue", "list"), 30)
        taken = sink.taken()
    tickets = {line for content in taken for line in content.splitlines() if line.startswith(b"\tid ")}
    assert (len(taken), len(tickets)) == (count, count)
