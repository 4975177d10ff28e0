"""Users of a file, CRAM-MD5, APOP and guessed passwords: smtplib and poplib against a server with two workers."""

from __future__ import annotations

import base64
import poplib
import re
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from house.premises import LOCAL, listener
from house.server_process import LOOPBACK, ServerProcess, eventually

GUESSER = "127.0.0.2"
SETTINGS = (
    'hostname = "mx.example.org"\ndata = "data"\nworkers = 2\n',
    '[users]\nfiles = "users.passwd"\ndefault_domain = "example.org"\ncram_md5 = true\n',
    '[pop3]\napop = true\nfailure_delay = "10ms"\n',
    '[limits]\nauth_failures = 3\nauth_failures_wait = "10ms"\n',
    listener("mx", auth="on", auth_without_tls=True),
    listener("pop", "pop3", auth_without_tls=True),
    LOCAL,
)
ANN = "ann:{PLAIN}tanstaaftanstaaf\n"
BOB = "bob:$6$abcdefgh$JkUs2M4cQMIF3fzb8rSPdrGis9kyxOr8G//eP6mEBQv4DyD/cfcCAqUX6.8VAMaqE9BpPh.U5Cfz9mU/DZcFL1\n"


class House:
    def __init__(self, folder: Path, server: ServerProcess) -> None:
        self.passwd = folder / "users.passwd"
        self.server = server

    def port(self, name: str) -> int:
        found = re.search(rf"\s{name}\s+127\.0\.0\.1:(\d+) ", self.server.banner)
        assert found, self.server.banner
        return int(found[1])

    def smtp(self, ip: str = LOOPBACK) -> smtplib.SMTP:
        client = smtplib.SMTP(source_address=(ip, 0), local_hostname="client.example", timeout=30)
        client.connect(LOOPBACK, self.port("mx"))
        client.ehlo()
        return client

    def pop(self) -> poplib.POP3:
        return poplib.POP3(LOOPBACK, self.port("pop"), timeout=30)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("logins")
    (folder / "gatepost.toml").write_text("".join(SETTINGS))
    (folder / "users.passwd").write_text(ANN + BOB)
    with ServerProcess(folder, "run") as server:
        yield House(folder, server)


def test_cram_md5_by_smtplib_and_pop3(house: House) -> None:
    with house.smtp() as client:
        assert "CRAM-MD5" in client.esmtp_features["auth"]
        client.user, client.password = "ann@example.org", "tanstaaftanstaaf"
        assert client.auth("CRAM-MD5", client.auth_cram_md5)[0] == 235
    with house.smtp() as client:
        client.login("bob", "s3cret pass")  # who has no password in the clear: smtplib goes on to PLAIN
    with house.smtp() as client:
        client.user, client.password = "ann@example.org", "wrong"
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            client.auth("CRAM-MD5", client.auth_cram_md5)
    pop = house.pop()
    assert "CRAM-MD5" in pop.capa()["SASL"]
    pop.quit()


def test_apop_by_poplib(house: House) -> None:
    client = house.pop()
    assert client.apop("ann@example.org", "tanstaaftanstaaf").startswith(b"+OK 0 messages")
    client.quit()
    first, second = house.pop(), house.pop()
    assert first.welcome != second.welcome
    for user, password in ("ann", "wrong"), ("bob", "s3cret pass"), ("nobody", "x"):
        with pytest.raises(poplib.error_proto, match=r"\[AUTH\] wrong name or password"):
            first.apop(user, password)
    second.user("bob")
    second.pass_("s3cret pass")
    for client in first, second:
        client.close()


def test_a_changed_file_counts_and_a_broken_one_changes_nothing(house: House) -> None:
    def is_known(user: str) -> bool:
        with house.smtp() as client:
            client.mail("dave@bobo.example")
            return client.rcpt(f"{user}@example.org")[0] == 250

    assert not is_known("kim")
    house.passwd.write_text(ANN + BOB + "kim:{PLAIN}new here\n")
    eventually(lambda: is_known("kim") and house.server.log.count("read again: 3 users") == 2)  # both workers
    with house.smtp("127.0.0.3") as client:
        client.login("kim", "new here")
    house.passwd.write_text("kim\n")
    eventually(lambda: is_known("kim") and house.server.log.count("users.passwd:1: there is no colon") == 2)
    assert is_known("kim")
    house.passwd.write_text(ANN + BOB)
    eventually(lambda: not is_known("kim"))


def test_O5_guesses_over_many_sessions_end_while_she_who_is_meant_logs_in(house: House) -> None:
    def guess() -> int:
        with house.smtp(GUESSER) as client:
            return client.docmd("AUTH PLAIN", base64.b64encode(b"\0bob\0a guess").decode())[0]

    assert [guess() for _ in range(3)] == [535] * 3
    eventually(lambda: {guess() for _ in range(16)} == {421})  # each worker has heard of it
    right = base64.b64encode(b"\0bob\0s3cret pass").decode()
    client = house.smtp(GUESSER)
    assert client.docmd("AUTH PLAIN", right)[0] == 421
    client.close()
    with socket.create_connection((LOOPBACK, house.port("pop")), source_address=(GUESSER, 0)) as line:
        replies = line.makefile("rb")
        replies.readline()
        line.sendall(b"USER bob\r\nPASS s3cret pass\r\n")
        replies.readline()
        assert replies.readline().startswith(b"-ERR [SYS/TEMP] too many failed logins")
        assert replies.readline() == b""
    pop = house.pop()
    pop.user("bob")
    assert pop.pass_("s3cret pass").startswith(b"+OK")
    pop.quit()
