"""What a plugin costs in each dialect: the same load past a plugin that lets everything through, and past none.

Each dialect is bound at every stage it has, an event sink at MAIL, RCPT, DATA and submission. Variants take turns in
each round, on a fresh server that keeps nothing, and what is printed is the median of the rounds: the rate beside that
without plugins, and the CPU of a message in the server, in the plugins' processes and, under Wine, in Wine's server.
Rates need an idle machine; where others work too, the ratio by CPU is the one to believe.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measured import NotMeasured, Process, program

HERE = Path(__file__).parent
PREFIXES = HERE.parent / ".wine" / "gatepost"
SESSIONS = 50
STAGES = ("sender", "recipient", "data", "message")
VARIANTS = {
    "no plugin": "",
    "Python, four stages": "python",
    "Python, isolated, four stages": "isolated",
    "MailEnable .so, four stages": "so",
    "MailEnable .dll under Wine, four stages": "dll",
    "Python sink, four events": "sink",
    "Python sink of plain methods, four events": "sink-plain",
    "COM sink .so, four events": "com-so",
    "COM sink .dll under Wine, four events": "com-dll",
    "IndiMail .so, three stages": "indimail",
    "program, filter": "filter",
    "program, scan": "scan",
}
GOALS = {"so": 0.5, "dll": 0.25}
"""Of the rate without plugins, at four stages."""


def report(rounds: int = 3, seconds: float = 4.0, only: Collection[str] = VARIANTS.values()) -> str:
    """The table of these variants, in Markdown. NotMeasured."""
    variants = {name: kind for name, kind in VARIANTS.items() if not kind or kind in only}
    with tempfile.TemporaryDirectory(prefix="bench-gatepost-") as folder:
        built = Path(folder)
        compile_plugins(built)
        rates: dict[str, list[float]] = {name: [] for name in variants}
        cpus: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(rounds):
            for name, kind in variants.items():
                with started(kind, built) as process:
                    rate, _ = send(process, 2 * SESSIONS)  # warm, and a first guess
                    rate, _ = send(process, max(2 * SESSIONS, int(rate / 2)))
                    rate, cpu = send(process, max(2 * SESSIONS, int(rate * seconds)))
                rates[name].append(rate)
                cpus[name].append(cpu * 1e6)
                told = f"round {number + 1}  {name:<42} {rate:8.0f}/s  {cpu * 1e6:8.0f} µs"
                print(told, file=sys.stderr, flush=True)
    return shown(rates, cpus)


def shown(rates: dict[str, list[float]], cpus: dict[str, list[float]]) -> str:
    lines = [
        "| 4 KiB, kept connections | messages/s | ratio | CPU per message | ratio by CPU |",
        "|---|" + "---:|" * 4,
    ]
    bare = next(iter(VARIANTS))
    base = statistics.median(cpus[bare])
    for name in rates:
        kind = VARIANTS[name]
        rate, cpu = statistics.median(rates[name]), statistics.median(cpus[name])
        ratios = [one / without for one, without in zip(rates[name], rates[bare], strict=True)]
        goal = f" (goal {GOALS[kind]})" if kind in GOALS else ""
        lines.append(
            f"| {name} | {rate:,.0f} | {statistics.median(ratios):.2f}{goal} | {cpu:,.0f} µs | {base / cpu:.2f} |"
        )
    return "\n".join(lines)


def send(process: Process, count: int) -> tuple[float, float]:
    """Messages per second and seconds of CPU per message."""
    command = [program("smtp-source"), "-s", str(SESSIONS), "-d", "-l", "4096", "-m", str(count)]
    began, used = time.monotonic(), process.cpu_s() + wine_cpu_s()
    subprocess.run([*command, f"127.0.0.1:{process.port}"], check=True, timeout=180)
    took = time.monotonic() - began
    return count / took, (process.cpu_s() + wine_cpu_s() - used) / count


def wine_cpu_s() -> float:
    """Seconds of CPU of Wine's servers for our prefix, which are nobody's children."""
    found = 0.0
    for entry in Path("/proc").iterdir():
        try:
            is_server = entry.name.isdigit() and (entry / "comm").read_text().startswith("wineserver")
            if is_server and str(PREFIXES).encode() in (entry / "environ").read_bytes():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                found += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return found


def compile_plugins(folder: Path) -> None:
    for compiler, kind, more in (("cc", "so", ["-fPIC"]), ("x86_64-w64-mingw32-gcc", "dll", [])):
        if (found := shutil.which(compiler)) is None:
            raise NotMeasured(f"{compiler} isn't installed")
        flags = ["-shared", "-O2", f"-I{HERE.parent / 'native'}", *more]
        for source in (HERE / "plugins" / "passing.c", HERE / "plugins" / "passing_sink.c"):
            output = str(folder / f"{source.stem}.{kind}")
            subprocess.run(
                [found, *flags, str(source), "-o", output, *(["-luuid"] if kind == "dll" else [])], check=True
            )
    for name, text in (("filter", "exec cat"), ("scan", "exit 0")):
        script = folder / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)


@contextmanager
def started(kind: str, built: Path) -> Iterator[Process]:
    """A server of its own with that plugin."""
    command = [sys.executable, __file__, "--serve", kind, "--built", str(built)]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/lib/wine"])
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PATH": path})
    assert server.stdin is not None and server.stdout is not None
    try:
        line = server.stdout.readline()
        if not line.strip().isdigit():
            raise NotMeasured(f"a server with {kind or 'no plugin'} didn't start")
        yield Process(server.pid, int(line))
    finally:
        server.stdin.close()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()


async def loaded(kind: str, built: Path) -> list[Any]:
    from gatepost.plugins.indimail import load_indimail
    from gatepost.plugins.loaded import Wish
    from gatepost.plugins.mailenable import load_mailenable
    from gatepost.plugins.program import ProgramOptions, load_program
    from gatepost.plugins.python import load, load_isolated
    from gatepost.plugins.sink import load_sink

    four = [Wish(stages=STAGES)]
    events = [Wish(stages=("command",), rule="mail; rcpt; data"), Wish(stages=("message",))]
    waiting = str(HERE / "plugins" / "waiting.py")
    match kind:
        case "python":
            return [load(waiting, wishes=four)]
        case "isolated":
            return [await load_isolated(waiting, wishes=four)]
        case "so" | "dll":
            return [await load_mailenable(built / f"passing.{kind}", wishes=four, prefixes=PREFIXES)]
        case "sink" | "sink-plain":
            name = "Passing" if kind == "sink" else "Plain"
            return [await load_sink(f"{HERE / 'plugins' / 'passing_sink.py'}:{name}", wishes=events)]
        case "com-so" | "com-dll":
            library = built / f"passing_sink.{kind[4:]}"
            return [await load_sink(library, wishes=events, prefixes=PREFIXES)]
        case "indimail":
            return [await load_indimail(built / "passing.so")]
        case "filter":
            return [await load_program(str(built / "filter"))]
        case "scan":
            options = ProgramOptions(mode="scan", hit="1")
            return [await load_program(f"{built / 'scan'} {{EMAILFILESPEC}}", options=options)]
    return []


async def serve(kind: str, built: Path) -> None:
    import server

    from gatepost.app import worker as room
    from gatepost.app.settings import load
    from gatepost.net import bind

    options = SimpleNamespace(durable=False, trace=False, tls=None, plugin=None, data=None)
    room.Stores = server.stores(durable=False, trace=False)
    settings = load(None, environ={}, overrides=server.settings_of(options))
    worker = room.Worker(settings, plugins=await loaded(kind, built))
    bound = bind("127.0.0.1", 0, reuse_port=False)
    await worker.start({"bench": bound})
    print(bound.getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await worker.stop(0.5)
    bound.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", nargs="*", choices=VARIANTS.values(), help="these variants, and no plugin")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--built", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is None:
        try:
            print(report(options.rounds, options.seconds, options.only or VARIANTS.values()))
        except NotMeasured as error:
            sys.exit(f"not measured: {error}")
        return
    import server

    with asyncio.Runner(loop_factory=server.loop("uvloop")) as runner:
        runner.run(serve(options.serve, options.built))


if __name__ == "__main__":
    main()
