"""`gatepost check` says whether asking a next server about recipients is of any use."""

import asyncio

import pytest

from gatepost import Server, refuse
from gatepost.app.cli.check import look_around
from gatepost.app.settings import Settings


@pytest.mark.parametrize(
    ("knows", "state", "words"), [(True, "ok", "refuses unknown"), (False, "warning", "accepts every")]
)
async def test_a_next_server_that_accepts_everything_is_told(tmp_path, knows, state, words):
    server = Server(listen="127.0.0.1:0", hostname="inner.test")

    @server.on("recipient")
    async def known(event):
        if knows and event.recipient.local != "ann":
            return refuse(550, "5.1.1", "no such user")

    async with server:
        route = {"match": "*@example.org", "deliver": f"relay 127.0.0.1:{server.port}", "recipients": "ask"}
        settings = Settings.in_memory(listen="127.0.0.1:0", route=[route])
        looks = await asyncio.to_thread(lambda: list(look_around(settings)))
    [look] = [look for look in looks if look.what == "recipients"]
    assert look.state == state
    assert words in look.text
