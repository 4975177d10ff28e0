"""Clients that people have collect their mail: fetchmail, getmail, mpop and mutt, over STLS and implicit TLS.

Strategy: one server for all of them. Each client trusts the certificate's authority, or the certificate's fingerprint;
it collects once and leaves the mail, finds nothing new, then collects what has come since and deletes it.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import md5, sha256
from pathlib import Path

import pytest

from house.premises import HOST, PASSWORD, USER, Premises, fresh_mark
from house.server_process import LOOPBACK
from house.test_house_pop3 import SETTINGS, mail
from programs import program

BODY = "hello\r\n.\r\n..dots\r\n"
LISTENERS = ("pop", "pops")
BOTH_WAYS = pytest.mark.parametrize("listener", LISTENERS, ids=["STLS", "implicit TLS"])
NOTHING_NEW = 1  # fetchmail's exit code


@pytest.fixture(scope="module")
def premises(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    with Premises(tmp_path_factory.mktemp("house"), *SETTINGS, workers=2).running() as premises:
        yield premises


@pytest.fixture
def house(premises: Premises) -> Iterator[Premises]:
    """The server, with an empty mailbox."""
    yield premises
    shutil.rmtree(premises.box())


def fingerprint(house: Premises) -> bytes:
    """The server's certificate, in DER."""
    return ssl.PEM_cert_to_DER_cert((house.folder / "mx.pem").read_text())


def colons(digest: str) -> str:
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)).upper()


def run(*command: str | Path, home: Path, code: int = 0) -> str:
    """A client as a process whose user lives in `home`; everything it said."""
    environment = {**os.environ, "HOME": str(home), "FETCHMAILHOME": str(home), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def settings(home: Path, name: str, text: str) -> Path:
    """A client's own settings, which hold a password."""
    path = home / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def heard(folder: Path) -> list[str]:
    """The messages that a client has put into a folder of its own, without their CRs."""
    return [path.read_text().replace("\r\n", "\n") for path in sorted(folder.rglob("*")) if path.is_file()]


def collected(
    house: Premises, folder: Path, collect: Callable[[bool], None], nothing_new: Callable[[], None] | None = None
) -> None:
    """The whole course: `collect` is told whether to delete; what it collects lies in `folder`."""
    marks = [fresh_mark() for _ in range(3)]
    mail(house, *marks[:2], body=BODY)
    collect(False)
    assert sum(mark in text for mark in marks[:2] for text in heard(folder)) == 2
    assert len(list(house.box().glob("new/*"))) == 2
    (nothing_new or (lambda: collect(False)))()
    assert len(heard(folder)) == 2
    mail(house, marks[2], body=BODY)
    collect(True)
    told = heard(folder)
    assert len(told) == 3
    for mark in marks:
        [text] = [text for text in told if mark in text]
        assert text.rstrip("\n").endswith("\nhello\n.\n..dots"), text
    assert not list(house.box().glob("new/*"))


@BOTH_WAYS
@pytest.mark.needs("fetchmail")
def test_fetchmail(house: Premises, tmp_path: Path, listener: str) -> None:
    """Unique ids, and the certificate by its fingerprint; over STLS by its authority."""
    if listener == "pops":
        trust = (
            f'ssl sslfingerprint "{colons(md5(fingerprint(house), usedforsecurity=False).hexdigest())}" no sslcertck'
        )
    else:
        trust = f'sslproto "tls1.2+" sslcertck sslcertfile "{house.ca}" sslcommonname "{HOST}"'
    rc = settings(
        tmp_path,
        "fetchmailrc",
        "set no syslog\nset no bouncemail\n"
        f"poll {LOOPBACK} protocol pop3 service {house.port(listener)} uidl\n"
        f'  username "{USER}" password "{PASSWORD}" {trust} no rewrite\n'
        f'  mda "cat > {tmp_path}/in/$$.eml"\n',
    )
    (tmp_path / "in").mkdir()

    def collect(deletes: bool, code: int = 0) -> None:
        how = ("--nokeep", "--flush") if deletes else ("--keep",)
        said = run(program("fetchmail"), "--fetchmailrc", rc, "-v", *how, home=tmp_path, code=code)
        assert ("STLS" in said) == (listener == "pop")

    collected(house, tmp_path / "in", collect, lambda: collect(False, NOTHING_NEW))


@pytest.mark.parametrize("trusts", ["ca", "fingerprint"])
@pytest.mark.needs("getmail")
def test_getmail(house: Premises, tmp_path: Path, trusts: str) -> None:
    """It knows no STLS."""
    box = tmp_path / "in"
    box.mkdir()

    def collect(deletes: bool) -> None:
        if trusts == "ca":
            trust = f"ca_certs = {house.ca}\nssl_cert_hostname = {HOST}"
        else:
            trust = f'ssl_fingerprints = ("{sha256(fingerprint(house)).hexdigest()}",)'
        settings(
            tmp_path,
            "getmailrc",
            f"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = {LOOPBACK}\nport = {house.port('pops')}\n"
            f"username = {USER}\npassword = {PASSWORD}\n{trust}\n"
            f"[destination]\ntype = MDA_external\npath = /bin/sh\nallow_root_commands = true\n"
            f'arguments = ("-c", "cat > {box}/$$.eml")\nunixfrom = false\n'
            f"[options]\nread_all = false\ndelete = {str(deletes).lower()}\ndelivered_to = false\nreceived = false\n",
        )
        run(program("getmail"), f"--getmaildir={tmp_path}", "--rcfile=getmailrc", home=tmp_path)

    collected(house, box, collect)


@BOTH_WAYS
@pytest.mark.parametrize("mechanism", ["scram-sha-256", "user"])
@pytest.mark.needs("mpop")
def test_mpop(house: Premises, tmp_path: Path, listener: str, mechanism: str) -> None:
    """It sends its commands ahead."""
    box = tmp_path / "in"
    for name in ("new", "cur", "tmp"):
        (box / name).mkdir(parents=True)

    def collect(deletes: bool) -> None:
        if mechanism == "user":
            trust = f"tls_fingerprint {colons(sha256(fingerprint(house)).hexdigest())}"
        else:
            trust = f"tls_trust_file {house.ca}"
        rc = settings(
            tmp_path,
            "mpoprc",
            f"account x\nhost {LOOPBACK}\nport {house.port(listener)}\nauth {mechanism}\n"
            f"user {USER}\npassword {PASSWORD}\ntls on\ntls_starttls {'on' if listener == 'pop' else 'off'}\n{trust}\n"
            f"pipelining on\nkeep {'off' if deletes else 'on'}\nuidls_file {tmp_path}/uidls\n"
            f"received_header off\ndelivery maildir {box}\n",
        )
        said = run(program("mpop"), "-C", rc, "-d", "x", home=tmp_path)
        assert ("AUTH SCRAM-SHA-256" in said) == (mechanism == "scram-sha-256"), said

    collected(house, box, collect)


@BOTH_WAYS
@pytest.mark.needs("mutt")
def test_mutt(house: Premises, tmp_path: Path, listener: str) -> None:
    """Its fetch-mail, on a terminal of its own; it opens the messages' mailbox as a person would."""
    scheme = "pops" if listener == "pops" else "pop"
    inbox = tmp_path / "in"
    inbox.mkdir()

    def collect(deletes: bool) -> None:
        rc = settings(
            tmp_path,
            "muttrc",
            "set ssl_starttls=yes ssl_force_tls=yes sleep_time=0\n"
            f'set certificate_file="{house.ca}" spoolfile="{inbox}/mbox" folder="{tmp_path}" mbox_type=mbox\n'
            f'set pop_host="{scheme}://{LOOPBACK}:{house.port(listener)}" pop_user="{USER}" pop_pass="{PASSWORD}"\n'
            f"set pop_delete={'yes' if deletes else 'no'} pop_last=no\n"
            "set move=no quit=yes wait_key=no\npush '<fetch-mail><quit>'\n",
        )
        on_a_terminal(program("mutt"), "-F", rc, home=tmp_path)

    marks = [fresh_mark() for _ in range(2)]
    (inbox / "mbox").touch()
    mail(house, *marks, body=BODY)
    collect(False)
    told = (inbox / "mbox").read_text()
    assert all(told.count(f"Subject: {mark}\n") == 1 for mark in marks), told
    assert told.count("\nhello\n.\n..dots\n") == 2
    assert len(list(house.box().glob("new/*"))) == 2
    collect(True)
    assert not list(house.box().glob("new/*"))


def on_a_terminal(*command: str | Path, home: Path) -> None:
    """A program that wants a screen; what it draws is thrown away, and shown if it doesn't end well."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "HOME": str(home), "TERM": "vt100", "LC_ALL": "C.UTF-8"}
    running = subprocess.Popen(
        [str(part) for part in command], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    drawn = b""
    until = time.monotonic() + 60
    try:
        while time.monotonic() < until:
            if select.select([ours], [], [], 1)[0]:
                try:
                    drawn += os.read(ours, 65536)
                except OSError:  # its side is closed
                    break
            elif running.poll() is not None:
                break
        assert running.wait(5) == 0, drawn.decode(errors="replace")
    finally:
        running.kill()
        running.wait()
        os.close(ours)
