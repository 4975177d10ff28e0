"""Mail in by SMTP, out by POP3: poplib and curl against a running server, over STLS and implicit TLS."""

from __future__ import annotations

import base64
import poplib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from scramp import ScramClient

from house.premises import HOST, LOCAL, PASSWORD, USER, Premises, fresh_mark, listener, message, run_client
from house.server_process import LOOPBACK, ServerProcess, eventually
from programs import program

PLUGIN = """
from gatepost import on, refuse

@on("pop-delete")
async def keep(event):
    if event.number == 1:
        return refuse("the first one stays")
"""
SETTINGS = (
    '[pop3]\nfailure_delay = "10ms"\n',
    listener("mx"),
    listener("pop", "pop3"),
    listener("pops", "pop3", tls="implicit"),
    LOCAL,
)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Premises]:
    with Premises(tmp_path, *SETTINGS, workers=request.param).running() as premises:
        yield premises


def trust(house: Premises) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=house.ca)


def mail(house: Premises, *marks: str, body: str = "hello\r\n.\r\n..dots\r\n") -> None:
    """One message after the other, each in its Maildir before the next."""
    for mark in marks:
        with smtplib.SMTP(LOOPBACK, house.port("mx"), "client.example") as client:
            client.sendmail("dave@bobo.example", [USER], message(mark, body=body).encode())
        house.delivered(mark)


def implicit(house: Premises, password: str = PASSWORD) -> poplib.POP3_SSL:
    client = poplib.POP3_SSL(LOOPBACK, house.port("pops"), context=trust(house), timeout=30)
    return log_in(client, password)


def by_stls(house: Premises) -> poplib.POP3:
    client = poplib.POP3(LOOPBACK, house.port("pop"), timeout=30)
    assert "STLS" in client.capa()
    with pytest.raises(poplib.error_proto, match="a login needs TLS"):
        client.user(USER)
    client.stls(trust(house))
    return log_in(client, PASSWORD)


def log_in(client: poplib.POP3, password: str) -> poplib.POP3:
    try:
        client.user(USER)
        client.pass_(password)
    except poplib.error_proto:
        client.close()
        raise
    return client


def test_mail_comes_in_by_smtp_and_goes_out_by_pop3(house: Premises) -> None:
    marks = [fresh_mark() for _ in range(3)]
    mail(house, *marks)
    client = by_stls(house)
    count, octets = client.stat()
    _, lines, _ = client.list()
    sizes = [int(line.split()[1]) for line in lines]
    assert count == 3 and sum(sizes) == octets
    uids = client.uidl()[1]
    order = []
    for number in (1, 2, 3):
        _, content, _ = client.retr(number)
        told = b"\r\n".join(content) + b"\r\n"
        assert len(told) == sizes[number - 1]
        assert told.endswith(b"\r\n\r\nhello\r\n.\r\n..dots\r\n")
        order += re.findall(rb"^Subject: (\w+)", told, re.MULTILINE)
        assert client.top(number, 1)[1] == content[:-2]
    assert [mark.decode() for mark in order] == marks
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        implicit(house)
    client.dele(2)
    client.quit()
    again = implicit(house)
    assert again.uidl()[1] == [uids[0], uids[2].replace(b"3 ", b"2 ")]
    assert not house.mail(marks[1]) and house.mail(marks[0])
    again.dele(1)
    again.close()  # without QUIT
    third = eventually(lambda: _perhaps(house))
    assert len(third.uidl()[1]) == 2
    third.quit()


def _perhaps(house: Premises) -> poplib.POP3 | None:
    """A session, unless the one before is still ending."""
    try:
        return implicit(house)
    except poplib.error_proto:
        return None


def test_logins(house: Premises) -> None:
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\] wrong name or password"):
        implicit(house, "wrong")
    client = poplib.POP3_SSL(LOOPBACK, house.port("pops"), context=trust(house), timeout=30)
    offered = client.capa()
    assert offered["SASL"] == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
    scram = ScramClient(["SCRAM-SHA-256"], USER, PASSWORD)

    def step(line: str) -> str:
        client._putcmd(line)  # poplib knows no AUTH
        said = client._getline()[0].decode()
        assert said.startswith("+ "), said
        return base64.b64decode(said[2:]).decode()

    first = base64.b64encode(scram.get_client_first().encode()).decode()
    scram.set_server_first(step(f"AUTH SCRAM-SHA-256 {first}"))
    scram.set_server_final(step(base64.b64encode(scram.get_client_final().encode()).decode()))
    assert client._shortcmd("").startswith(b"+OK")
    assert client.stat() == (0, 0)
    client.quit()


def test_what_happened_is_told_by_token(house: Premises) -> None:
    mark = fresh_mark()
    mail(house, mark)
    client = implicit(house)
    client.retr(1)
    client.dele(1)
    client.quit()
    log = eventually(lambda: [line for line in house.server.log.splitlines() if "retrieved=1" in line])
    token = re.search(r"\btoken=(\S+)", log[0])
    assert token, log
    told = house.ask("explain", token[1])
    assert f"as {USER}" in told and "maildrop: 1 messages" in told and "ended: quit" in told
    assert "retrieved 1, " in told and "deleted 1: " in told


def test_a_plugin_decides_what_is_deleted(tmp_path: Path) -> None:
    plugin = tmp_path / "keeps.py"
    plugin.write_text(PLUGIN)
    with Premises(tmp_path, *SETTINGS, f'[[plugin]]\nsource = "{plugin}"\n').running() as house:
        assert re.search(r"pop-delete +24575 keeps", house.server.banner)
        mail(house, fresh_mark(), fresh_mark())
        client = implicit(house)
        with pytest.raises(poplib.error_proto, match="the first one stays"):
            client.dele(1)
        client.dele(2)
        client.quit()
        assert len(list(house.box().glob("new/*"))) == 1


def test_killed_in_the_middle_nothing_is_deleted_and_nobody_is_locked_out(tmp_path: Path) -> None:
    marks = [fresh_mark(), fresh_mark()]
    house = Premises(tmp_path, *SETTINGS)
    with ServerProcess(tmp_path, "run") as house.server:
        mail(house, *marks)
        client = implicit(house)
        uids = client.uidl()[1]
        client.dele(1)
        client.dele(2)
        house.server.process.kill()
        house.server.process.wait()
        with pytest.raises((OSError, poplib.error_proto, EOFError)):
            client.quit()
        client.close()
    with house.running():
        client = implicit(house)
        assert client.uidl()[1] == uids
        client.quit()


def test_behind_a_load_balancer_the_client_is_the_one_that_it_names(tmp_path: Path) -> None:
    pop = listener("pop", "pop3", auth_without_tls=True, proxy_protocol="127.0.0.1")
    with Premises(tmp_path, listener("mx"), pop, LOCAL).running() as house:
        with socket.create_connection((LOOPBACK, house.port("pop")), 30) as line, line.makefile("rb") as heard:
            line.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.25 5000 110\r\n")
            assert heard.readline().startswith(b"+OK ")
            line.sendall(b"QUIT\r\n")
            assert heard.read().startswith(b"+OK ")
        eventually(lambda: re.search(r"listener=pop peer=192\.0\.2\.7 ended=quit", house.server.log))


@pytest.mark.needs("curl")
def test_curl_reads_over_stls_and_implicit_tls(house: Premises) -> None:
    mark = fresh_mark()
    mail(house, mark, body="a line\r\n" * 100_000)
    for name, scheme in ("pop", "pop3"), ("pops", "pop3s"):
        said = run_client(
            program("curl"), "-sS", "--ssl-reqd", "--cacert", house.ca,
            "--resolve", f"{HOST}:{house.port(name)}:{LOOPBACK}",
            "--user", f"{USER}:{PASSWORD}", f"{scheme}://{HOST}:{house.port(name)}/1",
        )  # fmt: skip
        assert mark in said and said.count("a line") == 100_000
