"""Programs that do the worst: each is a failure and nothing else, and nothing of it is left."""

import asyncio
import logging
import os
import pwd
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from gatepost.plugins.host import Limits, confinement
from gatepost.plugins.host.confinement import MIB
from gatepost.plugins.loaded import Wish
from gatepost.plugins.program import ProgramOptions, load_program
from gatepost.testing.rig import Rig
from unit.plugins_program.program_scripts import MESSAGE, asked, body, failure, gone, pipe, python, script

NOBODY = "nobody"
AS_ROOT = os.geteuid() == 0
NAMES = ("", "TERM", "HUP")


@pytest.fixture(params=["tools", "by ourselves"])
def confined(request, monkeypatch):
    """Both ways of beginning a program under limits."""
    if request.param == "by ourselves":
        monkeypatch.setattr(confinement, "_tools", lambda: None)
    elif confinement._tools() is None:
        pytest.skip("there is no util-linux here")


async def sent(client, message=MESSAGE, to="ann@example.org"):
    await client.reply()
    for line in ("EHLO x.example", "MAIL FROM:<dave@bobo.example>", f"RCPT TO:<{to}>", "DATA"):
        await client.command(line)
    return await client.content(message)


def processes_of(uid, words):
    """The processes of that user that began with these words, and live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if (entry / "cmdline").read_bytes().startswith(words) and entry.stat().st_uid == uid:
                    found.append(int(entry.name))
    return found


# ── what a program may ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_program_never_runs_without_its_limits(tmp_path, confined):
    source = python(
        tmp_path,
        """import resource as r
for name in ("CORE", "AS", "CPU", "NOFILE", "FSIZE", "NPROC"):
    print(f"{name}:", *r.getrlimit(getattr(r, f"RLIMIT_{name}")))
status = open("/proc/self/status").read()
print("NoNewPrivs:", status.partition("NoNewPrivs:")[2].split()[0])
print("Open:", *sorted(os.listdir("/proc/self/fd"), key=int)[:-1])
print("Alone:", os.getpid() == os.getpgid(0) == os.getsid(0))
print("Oom:", open("/proc/self/oom_score_adj").read().strip())
print()
""",
    )
    limits = Limits(512 * MIB, 5, 64, 3 * MIB, 4000)
    story = await asked(source, limits=limits)
    found = dict(line.split(": ", 1) for line in story.content.decode().split("\r\n") if line)
    assert found == {
        "CORE": "0 0",
        "AS": f"{512 * MIB} {512 * MIB}",
        "CPU": "5 5",
        "NOFILE": "64 64",
        "FSIZE": f"{3 * MIB} {3 * MIB}",
        "NPROC": "4000 4000",
        "NoNewPrivs": "1",
        "Open": "0 1 2",
        "Alone": "True",
        "Oom": "500",
    }


@pytest.mark.skipif(not AS_ROOT, reason="only root becomes somebody else")
async def test_a_program_runs_as_its_user_and_nobody_else(tmp_path, confined):
    tmp_path.chmod(0o755)
    source = script(tmp_path, 'id -u; id -G; echo "$HOME $USER"; test -w . || echo no; cat "$1" - | wc -l')
    program = f"/bin/sh {source} {{EMAILFILESPEC}}"
    there = Path("/tmp") / f"gatepost-program-{os.getpid()}.sh"
    there.write_text(source.read_text())
    there.chmod(0o644)
    try:
        for message in (MESSAGE, MESSAGE + b"0123456789\r\n" * 10_000):
            story = await asked(
                program.replace(str(source), str(there)), user=NOBODY, message=message,
                scratch=Path("/tmp"),
            )  # fmt: skip
            who = pwd.getpwnam(NOBODY)
            lines = story.content.decode().split("\r\n")
            assert lines[:4] == [str(who.pw_uid), str(who.pw_gid), f"{who.pw_dir} {NOBODY}", "no"]
            assert int(lines[4]) >= 2 * message.count(b"\n")
        pickup = {"mode": "pickup"}
        there.write_text('cd "$GATEPOST_PICKUP/QUEUES/SMTP/Inbound"; rm "$1"\n')
        assert (await asked(f"/bin/sh {there}", user=NOBODY, options=pickup)).content is None
        there.write_text("cat <&3 >&4; echo X-Id: $(id -u); cat\n")
        story = await asked(f"/bin/sh {there}", user=NOBODY, options={"mode": "qfilter"})
        assert f"X-Id: {who.pw_uid}\r\n".encode() in story.content
    finally:
        there.unlink()


@pytest.mark.skipif(not AS_ROOT, reason="only root becomes somebody else")
async def test_a_fork_bomb_is_bounded_and_killed_with_all_it_has_forked(confined):
    bomb = "b() { b | b & b; }; b"
    limits = Limits(processes=60, cpu_s=5)
    options = {"shell": True, "discard": "99"}
    story = await asked(bomb, user=NOBODY, limits=limits, timeout=2.0, options=options, scratch=Path("/tmp"))
    assert "it exited with status 2" in failure(story)  # the shell's, when it can't fork
    for pid in processes_of(pwd.getpwnam(NOBODY).pw_uid, b"/bin/sh\0-c\0b()"):
        await gone(pid)


async def test_memory_cpu_and_files_end(tmp_path):
    eats = python(tmp_path, "hoard = bytes(1 << 30)", "eats")
    assert "exited with status 1" in failure(await asked(eats, limits=Limits(256 * MIB)))
    burns = script(tmp_path, "while :; do :; done", "burns")
    assert "was ended by SIGKILL" in failure(await asked(burns, limits=Limits(cpu_s=1)))
    fills = script(tmp_path, f"head -c 5000000 /dev/zero > {tmp_path}/full; kill -XFSZ $$", "fills")
    assert "was ended by SIGXFSZ" in failure(await asked(fills, limits=Limits(file_size=MIB)))
    assert (tmp_path / "full").stat().st_size == MIB


# ── programs that don't end, or end badly ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ignores", NAMES)
async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path, ignores):
    trap = f"trap '' {ignores};" if ignores else ""
    source = script(tmp_path, f"{trap} sleep 1000 & echo $! $$ > {tmp_path}/pids; cat; wait")
    story = await asked(source, timeout=1.0)
    assert failure(story) == "the hook's time was over"
    assert story.explanation is not None
    for pid in (tmp_path / "pids").read_text().split():
        await gone(int(pid))


async def test_a_connection_that_is_lost_ends_the_program(tmp_path):
    source = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    async with pipe(tmp_path / "pid") as pids, Rig([await load_program(str(source))]) as rig:
        client = rig.connect()
        answer = asyncio.create_task(sent(client))
        pid = int(await pids.heard())
        client.line.lose()
        await gone(pid)
        await answer
        assert await rig.spool.entries() == []


async def test_a_server_that_closes_leaves_no_program(tmp_path):
    source = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    rig = Rig([await load_program(str(source), scratch=tmp_path)])
    await rig.open()
    async with pipe(tmp_path / "pid") as pids:
        answer = asyncio.create_task(sent(rig.connect()))
        pid = int(await pids.heard())
    await rig.close()
    await gone(pid)
    await answer
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("gatepost")] == []


PARENT = """
import asyncio, os, signal, sys
from gatepost.plugins.host import confinement
from gatepost.plugins.host.confinement import Limits
from gatepost.plugins.host.launching import Command, Program

async def main():
    program = Program(Command(("/bin/sh", "-c", "echo here; exec sleep 1000")), Limits(), os.open("/dev/null", 0))
    assert os.read(program.output, 5) == b"here\\n"
    print(program.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "by ourselves":
    confinement._tools = lambda: None
asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["tools", "by ourselves"])
async def test_a_program_dies_with_the_house(way):
    said = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", textwrap.dedent(PARENT), way], stdout=subprocess.PIPE, check=False
    )
    assert said.returncode == -9
    await gone(int(said.stdout))


@pytest.mark.parametrize("signal", ["KILL", "SEGV", "TERM", "PIPE", "ABRT"])
@pytest.mark.parametrize("mode", ["filter", "qfilter", "scan"])
async def test_a_crash_is_a_failure_and_half_its_output_nothing(tmp_path, signal, mode):
    source = script(tmp_path, f"head -c 200; kill -{signal} $$")
    options = {"mode": mode, "hit": "1-"} if mode == "scan" else {"mode": mode}
    assert failure(await asked(source, options=options)) == f"it was ended by SIG{signal}"
    story = await asked(source, options=options, wish=Wish(on_failure="proceed"))
    assert body(story) == MESSAGE


async def test_output_that_others_write_still_is_waited_for(tmp_path):
    source = script(tmp_path, f"echo 'X-First: 1'; exec 3<&0; (head -1 {tmp_path}/go; cat <&3) & exit 0")
    loaded = await load_program(str(source), wishes=[Wish(timeout=20.0)])
    async with pipe(tmp_path / "go") as go, Rig([loaded]) as rig:
        answer = asyncio.create_task(sent(rig.connect()))
        go.say("X-Second: 2")
        assert (await answer).startswith("250 ")
        (entry,) = await rig.spool.entries()
        assert entry.content.read().startswith(b"X-First: 1\r\nX-Second: 2\r\nReceived: ")
    never = script(tmp_path, "cat; sleep 1000 & exit 0", "never")
    assert failure(await asked(never, timeout=0.5)) == "the hook's time was over"


# ── floods, and pipes nobody reads ─────────────────────────────────────────────────────────────────────────────────


async def test_megabytes_on_standard_output_end_at_the_limit(tmp_path):
    source = script(tmp_path, "cat; yes")
    for most in (1000, 100_000, 5_000_000):
        story = await asked(source, options={"output_size": most})
        assert failure(story) == f"it wrote more than {most} octets"
    exact = script(tmp_path, "echo; head -c 99999 /dev/zero", "exact")
    story = await asked(exact, options={"output_size": 100_000})
    assert len(story.content) == 100_001  # the LF has become CRLF
    assert "more than 99999" in failure(await asked(exact, options={"output_size": 99_999}))


async def test_megabytes_on_standard_error_are_rationed_and_harmless(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = script(tmp_path, "yes 'a line of noise' | head -c 3000000 >&2; printf '\\033[2Jlast words' >&2; cat")
    story = await asked(source, name="noisy")
    assert body(story) == MESSAGE
    lines = [record.getMessage() for record in caplog.records if record.name == "gatepost.plugins.noisy"]
    assert 100 < lines.count("a line of noise") <= 250
    assert any("were left out" in line for line in lines)
    assert all(line.isprintable() for line in lines)


async def test_many_programs_share_one_ration(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    loaded = await load_program(str(script(tmp_path, "yes noise | head -40 >&2; cat")), name="noisy")
    async with Rig([loaded]) as rig:
        for reply in await asyncio.gather(*(sent(rig.connect()) for _ in range(20))):
            assert reply.startswith("250 ")
    lines = [record.getMessage() for record in caplog.records if record.name == "gatepost.plugins.noisy"]
    assert 200 <= lines.count("noise") < 800


async def test_nothing_stays_of_a_message_when_it_is_over(tmp_path):
    large = MESSAGE + b"0123456789\r\n" * 10_000
    loaded = await load_program(str(script(tmp_path, "echo X-New: 1; cat")), scratch=tmp_path)
    async with Rig([loaded]) as rig:
        (folder,) = tmp_path.glob("gatepost-*")
        for _ in range(3):
            client = rig.connect()
            assert (await sent(client, large)).startswith("250 ")
            assert await client.command("QUIT")
        await rig.settled()
        assert list(folder.iterdir()) == []
        assert [entry.content.size > len(large) for entry in await rig.spool.entries()] == [True] * 3
    assert not folder.exists()


async def test_its_last_words_explain_a_failure(tmp_path):
    story = await asked(script(tmp_path, "echo first >&2; echo 'no licence' >&2; exit 3"))
    assert failure(story) == "it exited with status 3; it said last: no licence"
    story = await asked(script(tmp_path, "echo 'no licence' >&2; kill -9 $$"))
    assert failure(story) == "it was ended by SIGKILL; it said last: no licence"


@pytest.mark.parametrize("act", ["exec <&-;", "head -c 10 > /dev/null;", ""])
async def test_nobody_has_to_read_its_input(tmp_path, act):
    large = MESSAGE + b"0123456789\r\n" * 300_000
    story = await asked(script(tmp_path, f"{act} printf 'X: y\\n\\nz\\n'"), message=large)
    assert story.content == b"X: y\r\n\r\nz\r\n"


async def test_a_program_that_closes_everything_and_goes_on_is_waited_for(tmp_path):
    source = script(tmp_path, "exec <&- >&- 2>&-; exit 99")
    assert (await asked(source)).accepted()
    story = await asked(script(tmp_path, "cat; exec <&- >&- 2>&-; exec sleep 1000"), timeout=0.5)
    assert failure(story) == "the hook's time was over"


async def test_a_program_that_has_gone_since_is_a_failure(tmp_path):
    source = script(tmp_path, "cat")
    for harm, words in ((lambda: source.chmod(0o644), "couldn't be begun"), (source.unlink, "couldn't be begun")):
        loaded = await load_program(str(source))
        harm()
        async with Rig([loaded]) as rig:
            assert (await sent(rig.connect())).startswith("451 ")
            assert words in str(rig.records.errors[0][2])
        if source.exists():
            source.chmod(0o755)


# ── many at a time ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("most", [7, 50])
async def test_fifty_at_a_time_and_never_more_than_allowed(tmp_path, most):
    (tmp_path / "now").mkdir()
    source = python(
        tmp_path,
        f"""
now = {str(tmp_path / "now")!r}
mine = f"{{now}}/{{os.getpid()}}"
open(mine, "x").close()
met = {str(tmp_path / "met")!r}
while len(os.listdir(now)) < {most} and not os.path.exists(met):
    time.sleep(0.005)
many = len(os.listdir(now))
open(met, "a").close()
text = sys.stdin.read()
os.unlink(mine)
sys.stdout.write(f"X-Many: {{many}}\\n" + text)
""",
    )
    loaded = await load_program(str(source), processes=most, scratch=tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    async with Rig([loaded]) as rig:
        messages = {f"ann{number}@example.org": MESSAGE + b"x%d\r\n" % number for number in range(50)}
        replies = await asyncio.gather(*(sent(rig.connect(), message, to) for to, message in messages.items()))
        assert all(reply.startswith("250 ") for reply in replies)
        entries = await rig.spool.entries()
        many = []
        for entry in entries:
            first, _, rest = entry.content.read().partition(b"\r\n")
            many.append(int(first.split()[1]))
            assert rest.endswith(messages.pop(str(entry.envelope.recipients[0])))
        assert not messages
        assert max(many) == most
    assert set(os.listdir("/proc/self/fd")) <= before
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("gatepost")] == []


async def test_waiting_for_another_counts_as_the_programs_own_time(tmp_path):
    source = script(tmp_path, f'test "$NUMRCPTS" = 1 || {{ echo $$ > {tmp_path}/pid; exec sleep 1000; }}; cat')
    quick = Wish(timeout=0.3, when={"network": ["192.0.2.77/32"]})
    slow = Wish(timeout=30.0, when={"network": ["192.0.2.1/32"]})
    loaded = await load_program(str(source), processes=1, wishes=[slow, quick])
    async with pipe(tmp_path / "pid") as pids, Rig([loaded]) as rig:
        client = rig.connect()
        await client.reply()
        for line in ("EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>"):
            await client.command(line)
        await client.command("DATA")
        holds = asyncio.create_task(client.content(MESSAGE))
        await pids.heard()
        assert (await sent(rig.connect("192.0.2.77"))).startswith("451 4.3.0 ")
        assert not holds.done()
        client.line.lose()
        await holds
        assert (await sent(rig.connect())).startswith("250 ")


async def test_a_shadow_changes_nothing(tmp_path):
    seen = tmp_path / "seen"
    source = script(tmp_path, f"cat > {seen}; echo changed; exit 31")
    loaded = await load_program(str(source), wishes=[Wish(shadow=True)], options=ProgramOptions())
    async with Rig([loaded]) as rig:
        client = rig.connect()
        assert (await sent(client)).startswith("250 ")
        client.line.end_of_file()
        await rig.settled()
        (entry,) = await rig.spool.entries()
        assert entry.content.read().endswith(MESSAGE)
    assert seen.read_bytes().endswith(MESSAGE.replace(b"\r\n", b"\n"))
