"""The examples that aren't Python do what their first comments promise: built by the line that stands there, loaded by
the settings that stand there.
"""

from __future__ import annotations

import shutil

import pytest

from examples.building import EXAMPLES, PREFIXES, build, build_lines, settings_of
from gatepost.app.dialects import load_plugins
from gatepost.app.settings import load as load_settings
from gatepost.testing import try_plugin

pytestmark = pytest.mark.timeout(240)  # a first Wine prefix takes its time
LOTTERY = "From: a@b.example\nSubject: You won the lottery\n\nYour prize is waiting.\n"
INFECTED = "From: a@b.example\nSubject: hello\n\nThis is a VIRUS-TEST.\n"
NATIVE = pytest.mark.needs("cc")
WINE = pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64")


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Called with an example and the ending of what is built of it: how messages fare with it."""
    monkeypatch.setattr("gatepost.plugins.host.wine.cache_folder", lambda: PREFIXES)

    async def tell(example, built="", **how):
        shutil.copy(EXAMPLES / example, tmp_path)
        for words in build_lines(EXAMPLES / example):
            if words[words.index("-o") + 1].endswith(built):
                build(words, tmp_path)
        text = settings_of(EXAMPLES / example)
        text = text.replace(".dll", built) if built else text
        file = tmp_path / "gatepost.toml"
        file.write_text(text)
        (plugin,) = await load_plugins(load_settings(file, environ={}).plugin)
        return await try_plugin(plugin, **how)

    return tell


@pytest.mark.parametrize("built", [pytest.param(".so", marks=NATIVE), pytest.param(".dll", marks=WINE)])
async def test_mailenable_keywords(tried, built):
    story = await tried("mailenable_keywords.c", built, message=LOTTERY)
    assert story.reply.startswith("550 5.7.1 no mail about lottery, please (")
    assert (await tried("mailenable_keywords.c", built)).accepted()


@NATIVE
async def test_indimail_refuser(tried):
    story = await tried("indimail_refuser.c", ".so", to=["ann@example.org", "bob@yahoo.com"])
    assert story.reply.startswith("530 5.7.1 We are serious and don't Yahoo (#5.7.1) (")
    assert story.recipients == ["ann@example.org"]


@NATIVE
async def test_indimail_scan(tried):
    story = await tried("indimail_scan.c", ".so", message=INFECTED)
    assert story.reply.startswith("554 5.7.1 the message is infected with a virus (")
    assert b"\r\nX-QHPSI: clean\r\n" in (await tried("indimail_scan.c", ".so")).content


async def test_filter(tried):
    story = await tried("filter.sh", message=LOTTERY)
    assert story.reply.startswith("554 5.7.1 you can keep the prize (")
    assert (await tried("filter.sh")).content.startswith(b"X-Filtered: yes\r\n")


async def test_pickup(tried):
    story = await tried("pickup.sh", message=LOTTERY)
    assert story.accepted() and story.content is None
    assert (await tried("pickup.sh")).content.startswith(b"X-Picked-Up: yes\r\n")


def test_every_example_is_told_how_to_build_and_load():
    native = {*EXAMPLES.glob("*.c"), *EXAMPLES.glob("*.sh")}
    assert {file.name for file in native} == {
        "filter.sh", "indimail_refuser.c", "indimail_scan.c", "mailenable_keywords.c", "pickup.sh",
        "sink_recipients.c", "sink_shield.c",
    }  # fmt: skip
    assert all(settings_of(file).startswith("[[plugin]]\nsource = ") for file in native)
    assert all(bool(build_lines(file)) == (file.suffix == ".c") for file in native)
