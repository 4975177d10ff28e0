"""Dovecot as a POP3 server of its own: users in a file, Maildirs, TLS by a certificate of trustme's, on loopback.

It runs as whoever runs the tests. Root is nobody whose mail Dovecot opens: there the Maildirs are `nobody`'s. Wrong
passwords cost no time.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import trustme

from house.peers import free_port, listens
from house.server_process import LOOPBACK, eventually
from programs import program

_SETTINGS = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = pop3
listen = {host}
ssl = yes
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/server.key
auth_failure_delay = 0
auth_mechanisms = plain login cram-md5 scram-sha-256 apop
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
mail_location = maildir:{folder}/mail/%u
mail_uid = {owner}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 1000
pop3_uidl_format = %08Xu%08Xv
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = home={folder}/mail/%u
}}
service pop3-login {{
  {chroot}
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = {tls_port}
  }}
}}
service anvil {{
  {chroot}
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
{more}
"""


@dataclass(frozen=True)
class Dovecot:
    """A running Dovecot. `port` speaks in the clear and STLS, `tls_port` TLS from the start; `ca` is whom to trust."""

    port: int
    tls_port: int
    pid: int
    ca: Path
    _folder: Path
    _owner: tuple[int, int]
    _numbers: Iterator[int]

    def box(self, user: str) -> Path:
        """A user's Maildir."""
        return self._folder / "mail" / user

    def put(self, user: str, messages: Iterable[bytes]) -> None:
        """Deliver messages, in this order; line ends as they are to stand in the files, best LF."""
        box = self.box(user)
        for part in (box, *(box / name for name in ("tmp", "new", "cur"))):
            part.mkdir(exist_ok=True)
            os.chown(part, *self._owner)
        for message in messages:
            path = box / "new" / f"{int(time.time())}.{next(self._numbers):08d}.host"
            path.write_bytes(message)
            os.chown(path, *self._owner)

    def mail(self, user: str) -> list[bytes]:
        """What is in a user's Maildir, in the order of its names."""
        found = [path for name in ("new", "cur") for path in (self.box(user) / name).glob("*")]
        return [path.read_bytes() for path in sorted(found, key=lambda path: path.name)]

    def log(self) -> str:
        """What it has said so far."""
        path = self._folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""


@contextmanager
def dovecot(users: Mapping[str, str], *, settings: str = "") -> Iterator[Dovecot]:
    """Dovecot for these users and passwords, which may be hashes of a `{SCHEME}`; `settings` follow its own.

    Logins in the clear are taken from loopback, and refused elsewhere.
    """
    as_root = os.geteuid() == 0
    owner = pwd.getpwnam("nobody") if as_root else pwd.getpwuid(os.geteuid())
    own_name = pwd.getpwuid(os.geteuid())
    internal, login = (pwd.getpwnam("dovecot"), pwd.getpwnam("dovenull")) if as_root else (own_name, own_name)
    with tempfile.TemporaryDirectory(prefix="dovecot-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "mail").mkdir(mode=0o755)
        os.chown(folder / "mail", owner.pw_uid, owner.pw_gid)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate = authority.issue_cert(LOOPBACK, "localhost", "pop.example.org")
        certificate.private_key_pem.write_to_path(str(folder / "server.key"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
        lines = (f"{name}:{word if word.startswith('{') else '{PLAIN}' + word}\n" for name, word in users.items())
        (folder / "users").write_text("".join(lines))
        (folder / "users").chmod(0o644)
        port, tls_port = free_port(), free_port()
        conf = folder / "dovecot.conf"
        conf.write_text(
            _SETTINGS.format(
                folder=folder,
                host=LOOPBACK,
                internal=internal.pw_name,
                internal_group=grp.getgrgid(internal.pw_gid).gr_name,
                login=login.pw_name,
                owner=owner.pw_uid,
                group=owner.pw_gid,
                chroot="" if as_root else "chroot =",
                port=port,
                tls_port=tls_port,
                more=settings,
            )
        )
        process = subprocess.Popen(
            [program("dovecot"), "-F", "-c", str(conf)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        running = Dovecot(
            port, tls_port, process.pid, folder / "ca.pem", folder, (owner.pw_uid, owner.pw_gid), count(1)
        )
        try:
            eventually(lambda: process.poll() is not None or (listens(port) and listens(tls_port)))
            assert process.poll() is None, process.stderr.read() + running.log()
            for user in users:
                running.put(user, ())
            yield running
        finally:
            process.terminate()  # its processes end with it
            process.wait(30)
            process.stderr.close()
