"""Loading a Python plugin: as the file is now, each thing once, and nothing of the plugin's run by looking at it."""

import functools
import sys
import threading

import pytest

from gatepost.hooks.api import on, refuse
from gatepost.plugins.loaded import PluginError, Wish
from gatepost.plugins.python import load
from gatepost.testing.rig import Rig

HOOK = "from gatepost import Plugin, on\n@on('sender')\nasync def {name}(event): ...\n"
IMPORT = "from gatepost import Plugin, on\n"
CLASS = IMPORT + "class First(Plugin[None]):\n    @on('sender')\n    async def one(self, event): ...\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "plugin.py"
        file.write_text(text)
        return file

    return write


def test_a_reload_sees_what_is_there_now_and_leaves_nothing_behind(written):
    for name in ("one", "two", "six"):  # of one length, within one second: the cache of bytecode couldn't tell
        file = written(HOOK.format(name=name))
        assert load(str(file)).bindings[0].hook.__name__ == name
    assert len([one for one in sys.modules.values() if getattr(one, "__file__", None) == str(file)]) == 1
    assert [entry.name for entry in file.parent.iterdir()] == ["plugin.py"]


def test_a_failing_reload_leaves_the_loaded_one(written):
    load(str(written(HOOK.format(name="one"))))
    before = {name: module for name, module in sys.modules.items() if name.startswith("gatepost_plugin_")}
    with pytest.raises(PluginError):
        load(str(written("1/0")))
    assert {name: module for name, module in sys.modules.items() if name.startswith("gatepost_plugin_")} == before


def test_annotations_as_texts_find_their_module(written):
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass, field\nfrom typing import ClassVar\n"
        "@dataclass(frozen=True)\nclass Limits:\n    many: int = 5\n    names: ClassVar[list[str]] = []\n"
    )
    kind = "class P(Plugin[Limits]):\n    @on('sender')\n    async def one(self, event): ...\n"
    loaded = load(str(written(text + "from gatepost import Plugin, on\n" + kind)), properties={"many": 7})
    assert loaded.bindings[0].properties.many == 7


@pytest.mark.parametrize(("text", "line"), [("x = 1\n1/0\n", 2), ("def f():\n    1/0\nf()\n", 2), ("x = 1\n\n)", 3)])
def test_an_error_is_told_with_its_line_however_the_file_is_named(written, monkeypatch, text, line):
    file = written(text)
    monkeypatch.chdir(file.parent)
    for name in ("plugin.py", "../" + file.parent.name + "/plugin.py", str(file)):
        with pytest.raises(PluginError, match=f"line {line}: "):
            load(name)


@pytest.mark.parametrize(
    "more",
    [
        "plugin = First()\n",
        "one = First()\nanother_name = one\n",
        "class Second(First): ...\n",
        "class Second(First): ...\nplugin = Second()\n",
        "Alias = First\n",
    ],
)
def test_a_class_its_instance_and_its_base_are_one_plugin(written, more):
    loaded = load(str(written(CLASS + more)))
    assert (len(loaded.bindings), len(loaded.instances)) == (1, 1)


def test_two_classes_are_two(written):
    second = CLASS.partition("\n")[2].replace("First", "Second")
    loaded = load(str(written(CLASS + second)))
    assert [type(instance).__name__ for instance in loaded.instances] == ["First", "Second"]


@pytest.mark.parametrize(
    "thing",
    [
        "class Thing:\n    __slots__ = ('unset',)\n",
        "class Thing:\n    @property\n    def raising(self): raise RuntimeError\n",
        "class Thing:\n    def __getattr__(self, name): raise RuntimeError\n",
        "class Thing:\n    def __getattribute__(self, name): raise RuntimeError\n",
        "class Thing:\n    def __eq__(self, other): raise RuntimeError\n    __hash__ = None\n",
    ],
)
def test_objects_that_mind_being_looked_at_are_left_alone(written, thing):
    assert len(load(str(written(thing + "thing = Thing()\n" + HOOK.format(name="one")))).bindings) == 1


def test_a_method_can_be_a_plugin_by_itself():
    class Anything:
        @on("sender")
        async def one(self, event): ...

    thing = Anything()
    assert load(thing.one).bindings[0].hook == thing.one


@pytest.mark.parametrize("inline", [True, False])
async def test_a_plain_wrapper_around_an_async_hook_is_awaited(inline):
    def wrapping(function):
        @functools.wraps(function)
        def wrapped(event):
            return function(event)

        return wrapped

    @wrapping
    @on("sender", inline=inline)
    async def hook(event):
        return refuse("found out")

    async with Rig([load(hook)]) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO client.example")
        assert "found out" in await client.command("MAIL FROM:<a@b.example>")


async def test_notices_are_told_once_however_often_a_plugin_is_bound(written):
    told = []

    class Twice:
        @on("disconnected")
        def gone(self, notice):
            told.append(threading.current_thread().name)

        @on("sender")
        async def sender(self, event): ...

    loaded = load(Twice(), wishes=[Wish(rule="mail from=a@*"), Wish(rule="mail from=b@*")])
    assert len(loaded.bindings) == 2
    async with Rig([loaded]) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("QUIT")
        await rig.settled()
        assert len(told) == 1 and told[0] != threading.main_thread().name


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
async def test_whatever_is_raised_in_a_thread_is_a_failure_of_the_plugin(error):
    @on("sender")
    def hook(event):
        raise error

    async with Rig([load(hook)]) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO client.example")
        assert (await client.command("MAIL FROM:<a@b.example>")).startswith("451")
        assert (await client.command("NOOP")).startswith("250")
