"""Before Postfix, which is told who the client is; and behind a load balancer and a front, which say it to us."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from house.postfix_server import Postfix, postfix
from house.premises import Premises, fresh_mark, message
from house.server_process import LOOPBACK, eventually
from programs import as_root

CLIENT = "203.0.113.9"
SENDER = "dave@bobo.example"
LISTENERS = f"""
[[listen]]
name = "mx"
address = "127.0.0.1:0"
xclient = ["{LOOPBACK}"]
xforward = ["{LOOPBACK}"]
[[listen]]
name = "balanced"
address = "127.0.0.1:0"
proxy_protocol = ["{LOOPBACK}"]
"""


def route(domain: str, port: int, introduce: str, handover: str = "queue") -> str:
    return (
        f'[[route]]\nmatch = "*@{domain}"\nrecipients = "any"\nhandover = "{handover}"\nfor = "anyone"\n'
        f'deliver = {{ by = "relay", hosts = ["{LOOPBACK}:{port}"], tls = "none", introduce = "{introduce}" }}\n'
    )


class Town:
    def __init__(self, gate: Premises, inner: Postfix) -> None:
        self.gate, self.inner = gate, inner

    def received(self, mark: str) -> str:
        """The message with this mark, as Postfix has passed it on."""
        eventually(lambda: [one for one in self.inner.sink.taken() if mark.encode() in one])
        [content] = [one for one in self.inner.sink.taken() if mark.encode() in one]
        return content.decode()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    trusted = {"smtpd_authorized_xforward_hosts": LOOPBACK, "smtpd_authorized_xclient_hosts": LOOPBACK}
    domains = "over.forward.example, queue.forward.example, over.client.example, queue.client.example"
    with postfix(relay_domains=domains, **trusted) as inner:
        gate = Premises(
            tmp_path_factory.mktemp("introduced"),
            LISTENERS,
            *(
                route(f"{short}.{by[1:]}.example", inner.port, by, handover)
                for short, handover in (("queue", "queue"), ("over", "before-reply"))
                for by in ("xforward", "xclient")
            ),
        )
        with gate.running():
            yield Town(gate, inner)


@contextmanager
def front(town: Town, ip: str) -> Iterator[smtplib.SMTP]:
    """A server in front of us, that speaks for a client."""
    with smtplib.SMTP(LOOPBACK, town.gate.port("mx"), "front.example", timeout=30) as client:
        client.ehlo()
        assert client.docmd("XCLIENT", f"NAME=[UNAVAILABLE] ADDR={ip} PORT=4711 HELO=spike.example")[0] == 220
        client.ehlo()
        yield client


@pytest.mark.needs("postfix")
@as_root
@pytest.mark.parametrize("how", ["queue", "over"])
@pytest.mark.parametrize("by", ["forward", "client"])
def test_postfix_is_told_who_the_client_is(town: Town, how: str, by: str) -> None:
    marks = [fresh_mark(), fresh_mark()]
    for mark, ip in zip(marks, (CLIENT, "203.0.113.10"), strict=True):
        with front(town, ip) as client:
            client.sendmail(SENDER, [f"ann@{how}.{by}.example"], message(mark))
        text = town.received(mark)
        assert f"Received: from spike.example ([{ip}])" in text  # ours
        if by == "client":  # Postfix's own, as if the client had called it
            assert f"Received: from spike.example (unknown [{ip}])\n\tby inner.example (Postfix)" in text
        else:
            assert "Received: from mx.example.org (unknown [127.0.0.1])\n\tby inner.example (Postfix)" in text
    log = town.inner.log()
    assert f"client=unknown[{CLIENT}]" in log
    assert "client=unknown[203.0.113.10]" in log


@pytest.mark.needs("postfix")
@as_root
def test_a_load_balancer_names_the_client_and_explain_tells_both(town: Town) -> None:
    mark = fresh_mark()
    with socket.create_connection((LOOPBACK, town.gate.port("balanced")), 30) as line:
        line.sendall(f"PROXY TCP4 {CLIENT} 192.0.2.1 40000 25\r\n".encode())
        with smtplib.SMTP() as client:
            client.sock, client.file = line, None
            assert client.getreply()[0] == 220
            client.ehlo("spike.example")
            client.mail(SENDER)
            client.rcpt("ann@queue.forward.example")
            accepted = client.data(message(mark))[1].decode()
    assert f"Received: from spike.example ([{CLIENT}])" in town.received(mark)
    assert f"client=unknown[{CLIENT}]" in town.inner.log()
    eventually(lambda: f"{CLIENT} (spike.example), via 127.0.0.1" in town.gate.ask("explain", accepted.split()[-1]))
