"""R15 at home: a real disk that is full, or promised to be kept free. The sender hears 4xx, and the session goes on."""

from __future__ import annotations

import os
import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from house.peers import free_port
from house.premises import Premises, listener, message
from house.server_process import LOOPBACK, ServerProcess
from programs import program

MIB = 2**20
TO = "ann@away.example"


def settings() -> str:
    """Mail for a server that is away stays in the queue."""
    return f"""
[[route]]
match = "*@away.example"
deliver = "relay {LOOPBACK}:{free_port()}"
recipients = "any"
"""


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[list[str], bool]]:
    """A disk of 12 MiB where one may be mounted, else files that can't grow beyond 1 MiB: what begins the command."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "gatepost-test", folder], capture_output=True, check=False
    )
    if mounted.returncode == 0 and os.path.ismount(folder):
        try:
            yield [], True
        finally:
            subprocess.run(["umount", folder], check=True)
    else:
        yield [program("prlimit"), f"--fsize={MIB}"], False


def test_R15_a_full_disk_is_452_the_session_lives_and_nothing_half_written_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data) as (limited, is_disk):
        premises = Premises(tmp_path, "[spool]\nkeep_free = 0\n", listener("mx"), settings())
        filler = data / "filler"
        filler.write_bytes(b"x" * MIB)
        command = [*limited, sys.executable, "-m", "gatepost", "run"]
        with ServerProcess(tmp_path, command=command) as server:
            premises.server = server
            with smtplib.SMTP(LOOPBACK, premises.port("mx"), "client.example") as client:
                client.ehlo()
                accepted = fill(client)
                assert client.noop()[0] == 250
                assert f"{accepted} queued" in premises.ask("queue", "list")
                filler.unlink()
                assert client.sendmail("dave@bobo.example", [TO], message("small")) == {}, "the disk is used again"
            assert f"{accepted + 1} queued" in premises.ask("queue", "list")
            shard = data / "shards" / "0"
            assert [*shard.glob("incoming/*")] == []
            assert len([*shard.glob("bodies/*")]) == accepted
            assert accepted > 2 or not is_disk
            server.stop()
            assert "Traceback" not in server.log, server.log


def fill(client: smtplib.SMTP) -> int:
    """Send large messages until one is refused, then smaller ones; how many were accepted."""
    accepted = 0
    for size in 3 * MIB // 2, 300_000, 100_000:
        content = message("filling", body=("y" * 70 + "\r\n") * (size // 72))
        for _ in range(12):
            client.mail("dave@bobo.example")
            client.rcpt(TO)
            code, said = client.data(content)
            if code != 250:
                assert code in (451, 452), said
                break
            accepted += 1
        else:
            assert size < MIB, "such messages must be too many, or too large, for any of the two disks"
    return accepted


def test_R15_space_that_is_to_be_kept_free_is_452_before_anything_is_sent(tmp_path: Path) -> None:
    premises = Premises(tmp_path, '[spool]\nkeep_free = "1000000 GiB"\n', listener("mx"), settings())
    with premises.running(), smtplib.SMTP(LOOPBACK, premises.port("mx"), "client.example") as client:
        client.ehlo()
        code, said = client.mail("dave@bobo.example")
        assert (code, said[:6]) == (452, b"4.3.1 "), said
        assert client.noop()[0] == 250
        assert not re.search(r"[1-9]\d* queued", premises.ask("queue", "list"))
