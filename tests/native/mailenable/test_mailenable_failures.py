"""A MailEnable plugin that does its worst, as a shared object and as a DLL: its own question fails, others are
answered, and what was half done is undone.
"""

import asyncio
import logging
import os

import pytest

from gatepost.plugins.host import Limits
from gatepost.plugins.host.confinement import MIB
from gatepost.plugins.host.wine import Windows
from gatepost.plugins.loaded import PluginError, Wish
from gatepost.testing.rig import Rig
from native.mailenable.conftest import KINDS
from native.mailenable.test_mailenable_calls import ACCEPTED, OKS, TAG, Talk, told

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]
FAILED = "451 4.3.0 a check couldn't be made, try again later"


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def ended(pid):
    """Set when the process has ended."""
    loop, descriptor, done = asyncio.get_running_loop(), os.pidfd_open(pid), asyncio.Event()

    def has():
        loop.remove_reader(descriptor)
        os.close(descriptor)
        done.set()

    loop.add_reader(descriptor, has)
    return done


async def begun(rig):
    talk = Talk(rig)
    await talk.client.reply()
    return talk


@pytest.mark.parametrize(
    ("wish", "why"),
    [("crash", "for the second time with this question"), ("exit", "exited with status 3"), ("overrun", "8192 octets")],
)
async def test_who_ends_the_process_fails_alone(kind, load, caplog, wish, why):
    caplog.set_level(logging.CRITICAL)
    plugin = await load(kind, processes=2, wishes=[Wish(timeout="30s")])
    async with Rig([plugin]) as rig:
        talks = [await begun(rig) for _ in range(8)]
        heard = await asyncio.gather(
            *(talk.hear(f"rcptto-{wish}" if n == 0 else "rcptto-refuse") for n, talk in enumerate(talks))
        )
        assert [told(replies[-1]) for replies in heard] == [FAILED] + ["550 5.7.1 no thanks"] * 7
        assert [told(reply) for reply in await talks[0].hear("x")] == [*OKS, ACCEPTED]
        assert why in str(rig.records.errors[0][2])
        assert len(rig.records.errors) == 1


async def test_who_hangs_is_killed_at_its_deadline_and_nobody_else_waits(kind, load, caplog):
    caplog.set_level(logging.WARNING)
    plugin = await load(kind, wishes=[Wish(timeout="1s")])
    async with Rig([plugin]) as rig:
        killed = ended(plugin.crew.hosts[0].pid)
        talks = [await begun(rig) for _ in range(6)]
        hanging = asyncio.create_task(talks[0].hear("dataend-hang"))
        others = await asyncio.gather(*(talk.hear("dataend-rewrite") for talk in talks[1:]))
        assert [told(heard[-1]) for heard in others] == [ACCEPTED] * 5
        assert told((await hanging)[-1]) == FAILED
        await killed.wait()
        assert [told(reply) for reply in await talks[0].hear("x")] == [*OKS, ACCEPTED]
    assert "didn't answer a question at message in time" in caplog.text


async def test_more_calls_hang_than_there_are_threads(kind, load, caplog):
    caplog.set_level(logging.CRITICAL)
    plugin = await load(kind, options={"threads": 2}, wishes=[Wish(timeout="1s")])
    async with Rig([plugin]) as rig:
        talks = [await begun(rig) for _ in range(4)]
        heard = await asyncio.gather(*(talk.hear("mailfrom-hang") for talk in talks))
        assert [told(replies[-1]) for replies in heard] == [FAILED] * 4
        assert [told(reply) for reply in await talks[0].hear("x")] == [*OKS, ACCEPTED]


@pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64")
async def test_who_takes_all_memory_under_wine_is_ended(load, caplog):
    """Elsewhere the kernel's own limit holds, and malloc fails."""
    caplog.set_level(logging.WARNING)
    plugin = await load("dll", limits=Limits(address_space=512 * MIB), wishes=[Wish(timeout="30s")])
    async with Rig([plugin]) as rig:
        talk = await begun(rig)
        assert told((await talk.hear("rcptto-leak"))[-1]) == FAILED
        assert [told(reply) for reply in await talk.hear("x")] == [*OKS, ACCEPTED]
    assert "MiB of memory, of 512 it may" in caplog.text


async def test_megabytes_on_standard_output_go_to_the_log_in_bounds(kind, load, caplog):
    caplog.set_level(logging.INFO)
    async with Rig([await load(kind)]) as rig:
        talk = await begun(rig)
        assert [told(reply) for reply in await talk.hear("rcptto-print")] == [*OKS, ACCEPTED]
    lines = [record for record in caplog.records if record.name == "gatepost.plugins.postman"]
    assert 0 < len(lines) < 1000


async def test_half_written_and_then_crashed_among_fifty_sessions(kind, load, caplog):
    """What crashes takes the others' calls with it; they are made again, with whole files."""
    caplog.set_level(logging.CRITICAL)
    plugin = await load(kind, processes=2, wishes=[Wish(timeout="60s")])
    async with Rig([plugin]) as rig:
        talks = [await begun(rig) for _ in range(50)]
        heard = await asyncio.gather(
            *(talk.hear("dataend-half" if n % 25 == 0 else "dataend-rewrite") for n, talk in enumerate(talks))
        )
        assert [told(replies[-1]) for replies in heard] == ([FAILED] + [ACCEPTED] * 24) * 2
        stored = [entry.content.read() for entry in await rig.spool.entries()]
        assert len(stored) == 48
        assert all(content.count(TAG) == 1 and content.endswith(b"\r\n\r\nHello Ann.\r\n") for content in stored)


async def test_nothing_is_left_behind(kind, load, tmp_path):
    plugin = await load(kind, processes=2)
    async with Rig([plugin]) as rig:
        talk = await begun(rig)
        await talk.hear("dataend-rename")
        pids = [host.pid for host in plugin.crew.hosts]
        await talk.client.command("QUIT")
    assert not list(tmp_path.iterdir())
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_library_without_Execute_is_named_with_what_it_has(kind, load, compiled, tmp_path):
    source = tmp_path / "other.c"
    source.write_text(
        "#ifdef _WIN32\n__declspec(dllexport)\n#endif\nint plugin_init(void);\nint plugin_init(void) { return 0; }\n"
    )
    with pytest.raises(PluginError, match=r'plugin "other": .* has no function Execute, .* exports .*plugin_init'):
        await load(kind, compiled(source, kind))


async def test_a_library_that_lacks_another_says_which(kind, load, compiled, tmp_path):
    helper, source = tmp_path / "helper.c", tmp_path / "needy.c"
    export = "#ifdef _WIN32\n__declspec(dllexport)\n#endif\n"
    helper.write_text(f"{export}int help(void);\nint help(void) {{ return 1; }}\n")
    source.write_text(
        f"int help(void);\n{export}long Execute(char *c, char *r) {{ (void)c; (void)r; return help(); }}\n"
    )
    made = compiled(helper, kind)
    library = compiled(source, kind, f"-L{made.parent}", f"-l:{made.name}", "-Wl,-rpath,$ORIGIN")
    with pytest.raises(PluginError, match=rf"it needs {made.name}, which can't be found"):
        await load(kind, library)
    (library.parent / made.name).write_bytes(made.read_bytes())  # beside it, it is found
    async with Rig([await load(kind, library)]) as rig:
        assert [told(reply) for reply in await (await begun(rig)).hear("x")] == [*OKS, ACCEPTED]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("gone.so", None, "there is no file"),
        ("text.dll", b"not a library", "is no library"),
        ("empty.so", b"", "is no library"),
        ("cut.dll", b"MZ" + bytes(100), "is no library"),
    ],
)
async def test_what_is_no_library_is_refused_in_words(load, tmp_path, name, content, why):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PluginError, match=f'plugin "{name.partition(".")[0]}": .*{why}'):
        await load("so", tmp_path / name)


async def test_surroundings_of_windows_are_for_dlls(load, tmp_path):
    with pytest.raises(PluginError, match=r"windows = .* is for DLLs"):
        await load("so", windows=Windows(drive_c=tmp_path))
