"""`make bench`: everything in one run, printed as the tables of docs/performance.md.

Messages per second come from Postfix's smtp-source with 50 sessions; smtp-sink, which keeps nothing, is the measure.
Variants take turns in each round, on a fresh server, and what is printed is the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dialects
import measured
import memory
from measured import Process, program

SESSIONS = 50
KIB = 1024


@dataclass(frozen=True, slots=True)
class Load:
    name: str
    size: int
    kept: bool


@dataclass(slots=True)
class Column:
    """What one variant did under one load, a value for each round."""

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


LOADS = (
    Load("4 KiB, kept", 4 * KIB, True),
    Load("4 KiB, one each", 4 * KIB, False),
    Load("1 MiB, kept", KIB * KIB, True),
    Load("1 MiB, one each", KIB * KIB, False),
)
_ALL = ("--plugin", "waiting", "--durable", "--trace")
VARIANTS: dict[str, tuple[str, ...]] = {
    "smtp-sink": (),
    "aiosmtpd, discarding": ("aiosmtpd",),
    "bare": ("gatepost",),
    "async plugin at every stage": ("gatepost", "--plugin", "waiting"),
    "plain `def` plugin at every stage": ("gatepost", "--plugin", "plain"),
    "isolated plugin at every stage": ("gatepost", "--plugin", "isolated"),
    "durable commit": ("gatepost", "--durable"),
    "async plugin, commit and trace": ("gatepost", *_ALL),
    "bare, two workers": ("gatepost", "--workers", "2"),
    "plugin, commit and trace, two workers": ("gatepost", *_ALL, "--workers", "2"),
    "bare, asyncio's loop": ("gatepost", "--loop", "asyncio"),
    "plugin, commit and trace, asyncio's loop": ("gatepost", *_ALL, "--loop", "asyncio"),
}


@contextmanager
def started(options: tuple[str, ...]) -> Iterator[Process]:
    with measured.gatepost(*options) if options else measured.sink() as process:
        yield process


def send(process: Process, load: Load, count: int) -> tuple[float, float]:
    """Messages per second and seconds of server CPU per message."""
    kept = ["-d"] if load.kept else []
    command = [program("smtp-source"), "-s", str(min(SESSIONS, count)), *kept, "-l", str(load.size), "-m", str(count)]
    began, used = time.monotonic(), process.cpu_s()
    subprocess.run([*command, f"127.0.0.1:{process.port}"], check=True, timeout=180)
    return count / (time.monotonic() - began), (process.cpu_s() - used) / count


def throughput(rounds: int, seconds: float, variants: dict[str, tuple[str, ...]], loads: tuple[Load, ...]) -> Any:
    table: dict[tuple[str, Load], Column] = {(name, load): Column() for load in loads for name in variants}
    for load in loads:
        for number in range(rounds):
            for name, options in variants.items():
                column = table[name, load]
                with started(options) as process:
                    rate, _ = send(process, load, 300 if load.size < KIB * KIB else 60)  # warm, and a first guess
                    rate = statistics.median(column.rates) if column.rates else rate
                    if not column.rates:
                        rate, _ = send(process, load, max(SESSIONS, int(rate)))
                    rate, cpu = send(process, load, max(2 * SESSIONS, int(rate * seconds)))
                column.rates.append(rate)
                column.cpu_us.append(cpu * 1e6)
                told = f"round {number + 1}  {load.name:<16} {name:<42} {rate:8.0f}/s  {cpu * 1e6:8.0f} µs"
                print(told, file=sys.stderr, flush=True)
    return table


def shown(table: dict[tuple[str, Load], Column], variants: dict[str, Any], loads: tuple[Load, ...]) -> str:
    lines = ["| | " + " | ".join(load.name for load in loads) + " |", "|---|" + "---:|" * len(loads)]
    for name in variants:
        cells = []
        for load in loads:
            mine, sink = table[name, load], table.get(("smtp-sink", load))
            rate, cpu = statistics.median(mine.rates), statistics.median(mine.cpu_us)
            ratio = f" · {rate / statistics.median(sink.rates):.2f}" if sink is not None else ""
            cells.append(f"{rate:,.0f}{ratio} · {cpu:,.0f} µs")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cpu_gate() -> str:
    script = Path(__file__).with_name("cpu.py")
    return subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True, timeout=300).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each variant is under load in a round")
    parser.add_argument("--only", nargs="*", choices=("throughput", "memory", "cpu", "dialects"), default=())
    parser.add_argument("--variant", nargs="*", default=(), help="parts of the names of variants")
    parser.add_argument("--load", nargs="*", default=(), help="parts of the names of loads")
    options = parser.parse_args()
    variants = {
        name: how for name, how in VARIANTS.items() if not options.variant or any(v in name for v in options.variant)
    }
    loads = tuple(load for load in LOADS if not options.load or any(part in load.name for part in options.load))

    def run_throughput() -> str:
        head = "messages/s · ratio to smtp-sink · server CPU per message\n\n"
        return head + shown(throughput(options.rounds, options.seconds, variants, loads), variants, loads)

    parts: dict[str, Callable[[], str]] = {
        "throughput": run_throughput,
        "memory": memory.report,
        "cpu": cpu_gate,
        "dialects": dialects.report,
    }
    try:
        for name, part in parts.items():
            if not options.only or name in options.only:
                print(part(), flush=True)
                print()
    except measured.NotMeasured as error:
        sys.exit(f"not measured: {error}")


if __name__ == "__main__":
    main()
