"""What sessions cost in memory, and whether large messages disturb others.

10,000 idle plain sessions, 3,000 idle TLS sessions, and 100 messages of 40 MB at a time, while another session says
NOOP a hundred times a second.
"""

from __future__ import annotations

import resource
import socket
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import measured
from measured import Process, program

PLAIN, TLS = 10_000, 3_000
LARGE, LARGE_SIZE = 100, 40 * 10**6
MIB = 2**20


def report() -> str:
    lines = ["| | measured | must |", "|---|---:|---:|"]
    lines += [idle(PLAIN, tls=False, must="50 MiB in all"), idle(TLS, tls=True, must="24 KiB each")]
    lines += large()
    return "\n".join(lines)


def idle(count: int, *, tls: bool, must: str) -> str:
    """Sessions that have said EHLO and then say nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        certificate(Path(folder))
        options = ("--tls", folder) if tls else ()
        with measured.gatepost("gatepost", *options) as process:
            warm = [session(process, tls) for _ in range(50)]
            before = process.resident()
            opened = [session(process, tls) for _ in range(count)]
            time.sleep(1)
            grown = process.resident() - before
            for one in warm + opened:
                one.close()
    kind = "TLS" if tls else "plain"
    each, whole = grown / count / 1024, grown / MIB
    return f"| {count:,} idle {kind} sessions | {whole:.1f} MiB, {each:.1f} KiB each | {must} |"


def session(process: Process, tls: bool) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", process.port), 30)
    if tls:
        connection = _CONTEXT.wrap_socket(connection)
    said(connection, b"")
    said(connection, b"EHLO idle.example.org\r\n")
    return connection


def said(connection: socket.socket, line: bytes) -> bytes:
    """A reply, to its last line."""
    if line:
        connection.sendall(line)
    heard = b""
    while not heard.endswith(b"\r\n") or heard.splitlines()[-1][3:4] == b"-":
        if not (piece := connection.recv(4096)):
            raise measured.NotMeasured("the server hung up")
        heard += piece
    return heard


def large() -> list[str]:
    """Many large messages at a time, durable, with plugin and trace; the delay of another session's NOOP."""
    with measured.gatepost("gatepost", "--plugin", "waiting", "--durable", "--trace") as process:
        base = process.resident()
        prober = Prober(process)
        quiet = prober.during(lambda: time.sleep(2))
        process.forget_peak()
        command = [program("smtp-source"), "-s", str(LARGE), "-m", str(LARGE), "-l", str(LARGE_SIZE)]
        began, used = time.monotonic(), process.cpu_s()
        busy = prober.during(lambda: subprocess.run([*command, f"127.0.0.1:{process.port}"], check=True, timeout=300))
        took, cpu = time.monotonic() - began, process.cpu_s() - used
        peak = process.peak()
    octets = LARGE * LARGE_SIZE / 1e6
    name = f"{LARGE} messages of 40 MB at a time"
    return [
        f"| {name}: resident memory at most | {peak / MIB:.0f} MiB ({base / MIB:.0f} before) | 300 MiB |",
        f"| {name}: another session's NOOP, p99 | {p99(busy) * 1e3:.1f} ms (median {median(busy) * 1e3:.2f}, "
        f"worst {max(busy) * 1e3:.1f}; quiet p99 {p99(quiet) * 1e3:.2f}) | 20 ms |",
        f"| {name}: how fast | {octets / took:.0f} MB/s, {cpu / octets * 1e3:.2f} ms of CPU per MB | |",
    ]


class Prober:
    """A session that says NOOP every 10 ms and notes how long the answer took."""

    def __init__(self, process: Process) -> None:
        self._connection = session(process, False)

    def during(self, work: object) -> list[float]:
        assert callable(work)
        delays: list[float] = []
        over = threading.Event()

        def probe() -> None:
            while not over.wait(0.01):
                began = time.perf_counter()
                said(self._connection, b"NOOP\r\n")
                delays.append(time.perf_counter() - began)

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            work()
        finally:
            over.set()
            thread.join()
        return delays


def p99(delays: list[float]) -> float:
    return sorted(delays)[int(len(delays) * 0.99)]


def median(delays: list[float]) -> float:
    return statistics.median(delays)


def certificate(folder: Path) -> None:
    import trustme

    issued = trustme.CA().issue_cert("mx.example.org")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(folder / "chain.pem"), append=True)


_CONTEXT = ssl.create_default_context()
_CONTEXT.check_hostname = False
_CONTEXT.verify_mode = ssl.CERT_NONE
