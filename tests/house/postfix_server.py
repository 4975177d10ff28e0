"""Postfix itself as the server behind us: an instance of its own in a folder, whose mail goes on to a sink."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from house.peers import Sink, free_port, listens, smtp_sink
from house.server_process import LOOPBACK, eventually
from programs import program

_SERVICES = """
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """A running Postfix that takes mail for anybody. What it has taken is in the sink."""

    port: int
    sink: Sink
    _log: Path

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""


@contextmanager
def postfix(*, port: int = 0, **parameters: str) -> Iterator[Postfix]:
    """Postfix on this port of loopback, or a free one, with these parameters of main.cf. It starts as root only."""
    command = program("postfix")
    with tempfile.TemporaryDirectory(prefix="postfix-") as made, smtp_sink() as sink:
        folder = Path(made)
        folder.chmod(0o755)
        settings, queue, data = folder / "etc", folder / "spool", folder / "data"
        for one in (settings, queue, data):
            one.mkdir(mode=0o755)
        shutil.chown(data, "postfix")
        port, log = port or free_port(), folder / "log"
        main = {
            "compatibility_level": "3.6",
            "queue_directory": str(queue),
            "data_directory": str(data),
            "maillog_file": str(log),
            "maillog_file_prefixes": made,
            "multi_instance_enable": "yes",
            "inet_interfaces": LOOPBACK,
            "inet_protocols": "ipv4",
            "myhostname": "inner.example",
            "mydestination": "",
            "mynetworks": f"{LOOPBACK}/32",
            "relay_domains": "d.example",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_recipient_restrictions": "permit",
            "relayhost": f"[{LOOPBACK}]:{sink.port}",
            "smtp_tls_security_level": "none",
            "smtpd_peername_lookup": "no",
            "smtp_dns_support_level": "disabled",
            "alias_maps": "",
            "local_recipient_maps": "",
            **parameters,
        }
        (settings / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
        (settings / "master.cf").write_text(_SERVICES.format(port=port).lstrip())

        def control(word: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [command, "-c", str(settings), word], capture_output=True, text=True, timeout=60, check=False
            )

        started = control("start")
        try:
            assert started.returncode == 0, started
            eventually(lambda: listens(port))
            yield Postfix(port, sink, log)
        finally:
            control("stop")
