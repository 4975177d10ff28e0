"""A real server with lists: one post by SMTP, copies in Maildirs and at the next server, and what may go round."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path

import dkim
import pytest

from gatepost.content.dkim_keys import Algorithm, make_key
from house.peers import NextServer, next_server
from house.server_process import ServerProcess, eventually, gatepost, mail_in

SETTINGS = """
hostname = "mx.example.org"
data = "data"
workers = 1
[smtp]
recipients_disagree = "strictest"
[delivery]
first = "1s"
[[listen]]
address = "127.0.0.1:0"
[[route]]
match = "news@example.org"
deliver = "list news"
[[route]]
match = "dev@example.org"
deliver = "list dev"
[[route]]
match = "*@example.org"
deliver = "maildir"
[[route]]
match = "*@next.example"
deliver = "relay 127.0.0.1:{port}"
recipients = "any"
for = "anyone"
[[user]]
name = "ann@example.org"
[[user]]
name = "bob@example.org"
[[dkim]]
domain = "example.org"
strangers = true
[[dkim.key]]
selector = "s"
file = "key.pem"
"""
KEY, PEM = make_key(Algorithm.RSA, 1024)
URL = "https://lists.example.org/u/{token}"


class House:
    """The server, its next server, and posts through it."""

    def __init__(self, folder: Path, server: ServerProcess, peer: NextServer) -> None:
        self.folder, self.server, self.peer = folder, server, peer

    def send(self, mark: str, *to: str, content: bytes | None = None, sender: str = "ann@example.org") -> str:
        """A post; what was said at its end."""
        client = self.server.connect()
        assert client.reply().startswith("220 ")
        assert client.say("EHLO client.example").startswith("250")
        assert client.say(f"MAIL FROM:<{sender}>").startswith("250")
        for one in to:
            assert client.say(f"RCPT TO:<{one}>").startswith("250")
        assert client.say("DATA").startswith("354")
        post = f"From: Ann <{sender}>\r\nTo: {to[0]}\r\nSubject: {mark}\r\nMessage-ID: <{mark}@x>\r\n\r\nhello\r\n"
        said = client.say((content or post.encode()).decode() + ".")
        client.say("QUIT")
        return said

    def relayed(self, mark: str, count: int) -> list[tuple[str, str, bytes]]:
        """(return path, recipient, content) of the copies that the next server has."""
        eventually(lambda: len(self.peer.with_mark(f"Subject: [news] {mark}")) >= count)
        return [(sender, *to, content) for sender, to, content in self.peer.with_mark(f"Subject: [news] {mark}")]

    def dropped(self, mark: str, count: int) -> dict[str, bytes]:
        """Maildir by Maildir, the copies there."""

        def there() -> list[tuple[str, bytes]]:
            texts = ((path.parent.parent.name, path.read_bytes()) for path in mail_in(self.folder / "data"))
            return [(name, text) for name, text in texts if re.search(rb"^Subject:.* %b$" % mark.encode(), text, re.M)]

        eventually(lambda: len(there()) >= count)
        found = there()
        assert len({name for name, _ in found}) == len(found)
        return dict(found)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("lists")
    with next_server() as peer:
        (folder / "gatepost.toml").write_text(SETTINGS.format(port=peer.port))
        (folder / "key.pem").write_bytes(PEM)
        words = ("subject_prefix=[news]", f"unsubscribe_url={URL}", "archive=true", "from=rewrite")
        for command in (
            ("create", "news", "news@example.org", "--owner", "olga@example.org", *words),
            ("create", "dev", "dev@example.org", "--owner", "olga@example.org", "post=open"),
            ("subscribe", "news", "ann@example.org", "eve@next.example", "finn@next.example", "dev@example.org"),
            ("subscribe", "dev", "bob@example.org", "eve@next.example", "gil@next.example", "news@example.org"),
        ):
            ran = gatepost(folder, "list", *command)
            assert ran.returncode == 0, ran.stderr
        with ServerProcess(folder, "run") as server:
            yield House(folder, server, peer)
            assert server.stop() == 0
            assert "Traceback" not in server.log


def test_a_post_reaches_every_member_by_a_path_of_his_own(house: House) -> None:
    assert house.send("first", "news@example.org").startswith("250")
    copies = {to: (sender, content) for sender, to, content in house.relayed("first", 2)}
    dropped = house.dropped("first", 2)
    assert set(copies) == {"eve@next.example", "finn@next.example"}
    assert set(dropped) == {"ann", "bob"}
    paths = [sender for sender, _ in copies.values()]
    paths += re.findall(r"^Return-Path: <(.*)>$", (dropped["ann"] + dropped["bob"]).decode(), re.MULTILINE)
    assert len(set(paths)) == 4
    assert all(re.fullmatch(r"(news|dev)-bounces\+\d+-[a-z2-7]{10}@example\.org", path) for path in paths)
    links = set()
    for _, content in copies.values():
        copy = message_from_bytes(content, policy=policy.default)
        assert copy["From"] == "Ann via news <news@example.org>"
        assert copy["Reply-To"] == "Ann <ann@example.org>"
        assert copy["List-Id"] == "<news.example.org>"
        assert copy["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        links.add(re.findall(r"<(https:[^>]*)>", copy["List-Unsubscribe"])[0])
        assert copy.get_content() == "hello\r\n"
    assert len(links) == 2


def test_a_link_unsubscribes_whom_it_was_sent_to(house: House) -> None:
    house.send("links", "news@example.org")
    [content] = [content for _, to, content in house.relayed("links", 2) if to == "finn@next.example"]
    found = re.search(rb"<https://lists\.example\.org/u/([^>]*)>", content.replace(b"\r\n ", b" "))
    assert found
    left = gatepost(house.folder, "list", "unsubscribe", "--token", found[1].decode())
    assert left.returncode == 0, left.stderr
    assert "finn" not in gatepost(house.folder, "list", "members", "news").stdout
    assert gatepost(house.folder, "list", "subscribe", "news", "finn@next.example").returncode == 0


def test_who_is_on_several_lists_gets_one_copy_as_the_first_ones_member(house: House) -> None:
    assert house.send("nested", "news@example.org").startswith("250")
    house.relayed("nested", 2)
    bob = message_from_bytes(house.dropped("nested", 2)["bob"], policy=policy.default)
    assert bob["List-Id"] == "<dev.example.org>"
    assert bob.get_all("X-Loop") == ["news@example.org", "dev@example.org"]
    gil = eventually(lambda: [one for one in house.peer.with_mark("Subject: nested") if one[1] == ["gil@next.example"]])
    assert len(gil) == 1
    everybody = house.peer.with_mark("nested")
    assert sorted(to for _, [to], _ in everybody) == ["eve@next.example", "finn@next.example", "gil@next.example"]


def test_copies_are_signed_as_they_leave(house: House) -> None:
    house.send("signed", "news@example.org")

    def dns(name: bytes, timeout: int = 0) -> bytes:
        return KEY.public_record().encode() if name == b"s._domainkey.example.org." else b""

    for _, _, content in house.relayed("signed", 2):
        assert b"d=example.org" in content
        assert dkim.verify(content, minkey=1024, dnsfunc=dns)


def test_posts_are_in_the_archive_as_they_came(house: House) -> None:
    house.send("kept", "news@example.org")
    house.relayed("kept", 2)
    [box] = (house.folder / "data/lists/news").glob("*.mbox")
    assert box.read_bytes().count(b"\nSubject: kept\n") == 1
    assert b"[news]" not in box.read_bytes()
    assert not (house.folder / "data/lists/dev").exists()


def test_a_copy_that_comes_back_is_refused_in_the_session(house: House) -> None:
    house.send("round", "news@example.org")
    *_, content = house.relayed("round", 2)[0]
    for one in "news@example.org", "dev@example.org":
        said = house.send("", one, content=content)
        assert said.startswith("554 5.4.6") == (one == "news@example.org"), said
    back = house.dropped("round", 2)["bob"].replace(b"\n", b"\r\n")
    for one in "news@example.org", "dev@example.org":
        assert house.send("", one, content=back).startswith("554 5.4.6")


def test_a_post_to_two_lists_goes_to_each_ones_members(house: House) -> None:
    assert house.send("both", "news@example.org", "dev@example.org").startswith("250")
    house.dropped("both", 2)
    copies = eventually(lambda: len(found := house.peer.with_mark("both")) == 4 and found)
    assert sorted((sender.partition("-")[0], *to) for sender, to, _ in copies) == [
        ("dev", "eve@next.example"),
        ("dev", "gil@next.example"),
        ("news", "eve@next.example"),
        ("news", "finn@next.example"),
    ]


def test_a_posts_story_leads_to_its_copies_and_back(house: House) -> None:
    said = house.send("story", "news@example.org")
    house.relayed("story", 2)
    post = said.split()[-1]
    told = eventually(lambda: "list dev" in (text := house.server.ask("explain", post).stdout) and text)
    found = re.findall(r"copied +list (\w+) +for (\d+) +as (\S+)", told)
    assert [(name, count) for name, count, _ in found] == [("news", "3"), ("dev", "2")]
    [copies] = {ticket for *_, ticket in found}
    told = eventually(lambda: (text := house.server.ask("explain", copies).stdout).count("delivered") == 5 and text)
    assert told.startswith("COPIES")
    assert f"about  {post}" in told
    sessions = house.server.ask("trace", "--to", "finn@next.example").stdout
    assert copies.rpartition("-")[0] in sessions
