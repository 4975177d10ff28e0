"""A server without `data` that is embedded: what it has received is picked up by POP3."""

import poplib
import smtplib
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from gatepost import Server
from gatepost.app.server import SyncServer
from gatepost.app.settings import SettingsError

PASSWORD = "correct horse"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
MX = {"name": "mx", "address": "127.0.0.1:0"}
POP = {"name": "pop", "address": "127.0.0.1:0", "protocol": "pop3", "auth_without_tls": True}


@pytest.fixture
def server() -> Iterator[SyncServer]:
    ann = {"name": "ann@app.example", "password": HASH, "aliases": ["anne@app.example"]}
    with Server(listen=[MX, POP], user=[ann, {"name": "bob@app.example", "password": HASH}]).in_thread() as running:
        yield running


def mail(server: SyncServer, *to: str, subject: str) -> None:
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        client.sendmail("a@b.example", to, f"Subject: {subject}\r\n\r\nhello\r\n.dot\r\n")


def pick_up(server: SyncServer, user: str = "ann@app.example") -> poplib.POP3:
    host, port = server.listeners["pop"].address
    client = poplib.POP3(host, port, timeout=30)
    try:
        client.user(user)
        client.pass_(PASSWORD)
    except poplib.error_proto:
        client.close()
        raise
    return client


def test_each_user_has_what_came_for_them(server):
    mail(server, "Ann@app.example", "who@app.example", subject="one")
    mail(server, "anne@app.example", "bob@app.example", subject="two")
    client = pick_up(server)
    assert [line.split()[1].decode() for line in client.uidl()[1]] == [one.ticket for one in server.messages]
    assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == server.messages[0].content
    assert client.stat() == (2, sum(len(one.content) for one in server.messages))
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        pick_up(server)
    client.dele(1)
    client.rset()
    client.dele(2)
    client.quit()
    assert [one.subject for one in server.messages] == ["one", "two"]
    again = pick_up(server)
    assert [line.split()[0] for line in again.list()[1]] == [b"1"] and b"Subject: one" in again.retr(1)[1]
    again.quit()
    others = pick_up(server, "bob@app.example")
    assert b"Subject: two" in others.retr(1)[1]
    others.quit()
    server.messages.clear()
    empty = pick_up(server, "bob@app.example")
    assert empty.stat() == (0, 0)
    empty.quit()


def test_a_server_that_sends_everything_on_has_nothing_to_show():
    route = {"match": "*", "deliver": "relay 127.0.0.1:1", "for": "anyone", "recipients": "any"}
    with pytest.raises(SettingsError, match="POP3 shows maildrops, and without data"):
        Server(listen=[MX, POP], route=[{**route, "match": "*@app.example"}])
