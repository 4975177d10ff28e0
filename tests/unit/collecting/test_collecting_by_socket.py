"""Runs over real sessions, with a server that has less than it should, and one that has no manners."""

from dataclasses import replace

import pytest

from gatepost.collecting.collector import Collector
from gatepost.collecting.ports import Login, Trouble
from gatepost.collecting.remote import Remotes
from unit.collecting.doubles import Home, Maildrop, account, message
from unit.collecting_remote.bad_server import GOOD, HANG_UP, BadServer

ONE, TWO, THREE = message("one"), message("two"), message("three\r\n.\r\n..dots")


class Socket:
    """One account at one server, and the house behind."""

    def __init__(self, server: BadServer) -> None:
        self.home = Home(Maildrop())
        self.house = replace(self.home.house(), connect=Remotes().connect)
        self.login = Login("127.0.0.1", server.port, "none", "ann", "secret", command_s=5.0)

    async def run(self, **facts):
        return await Collector(account(login=self.login, **facts), self.house).run()


@pytest.mark.parametrize("less", [(), ("UIDL",), ("UIDL", "TOP")], ids=["uidl", "top", "neither"])
async def test_whatever_a_server_has_each_message_comes_once(less):
    capa = tuple(one for one in GOOD if one not in less)
    async with BadServer([ONE, TWO, ONE, THREE], uids=["a", "b", "c", "d"], capa=capa).running() as server:
        there = Socket(server)
        assert (await there.run()).taken == 4
        assert there.home.contents == [ONE, TWO, ONE, THREE]
        assert (await there.run()).taken == 0
        there.home.time += 8 * 86400
        assert (await there.run()).deleted == 4
        assert server.mail == []
        retrieved = sum(line.startswith("RETR") for line in server.heard)
        assert retrieved == (12 if "TOP" in less else 4)


async def test_headers_that_a_server_says_it_has_and_doesnt_give():
    capa = tuple(one for one in GOOD if one != "UIDL")
    async with BadServer([ONE, TWO], capa=capa, says={"TOP": b"-ERR no\r\n"}).running() as server:
        there = Socket(server)
        assert [(await there.run()).taken for _ in range(2)] == [2, 0]
        assert there.home.contents == [ONE, TWO]


@pytest.mark.parametrize("uidl", [True, False])
@pytest.mark.parametrize("where", ["LIST", "UIDL", "RETR 1", "RETR 2", "DELE 1", "QUIT"])
async def test_hung_up_anywhere_nothing_is_lost_and_nothing_doubled(where, uidl):
    capa = GOOD if uidl else tuple(one for one in GOOD if one != "UIDL")
    rude = {where: b"+OK\r\n" + ONE[:40] + HANG_UP if "RETR" in where else HANG_UP}
    async with BadServer([ONE, TWO], uids=["a", "b"], capa=capa, says=rude).running() as server:
        there = Socket(server)
        report = await there.run(keep_s=0.0)
        assert report.trouble is Trouble.LOST
        assert server.mail == [ONE, TWO]
        server.says.clear()
        report = await there.run(keep_s=0.0)
        assert (report.trouble, report.deleted) == (None, 2)
        assert there.home.contents == [ONE, TWO]
        assert server.mail == []


async def test_what_is_no_is_told_by_its_kind():
    async with BadServer([ONE]).running() as server:
        there = Socket(server)
        there.login = replace(there.login, password="wrong")
        assert (await there.run()).trouble is Trouble.LOGIN
        server.says["APOP"] = b"-ERR [IN-USE] somebody else is there\r\n"
        assert (await there.run()).trouble is Trouble.TEMPORARY
        server.says.clear()
        there.login = replace(there.login, password="secret", tls="starttls")
        assert (await there.run()).trouble is Trouble.TLS
        there.login = replace(there.login, port=1)
        assert (await there.run()).trouble is Trouble.LOST
        assert there.home.contents == []
