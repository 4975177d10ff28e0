"""What a door takes, and from whoever holds it: a worker that is somebody else's may ask for anything."""

import array
import json
import os
import pwd
import select
import socket
import subprocess
import sys
import tempfile

import pytest

from gatepost.plugins.host import launcher
from gatepost.plugins.host.launcher import Refused, read_accounts, read_order
from programs import as_root

AS_ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")
GOOD = {"user": "nobody", "arguments": ["/bin/true"], "environment": {}, "folder": "/", "limits": {}}


class Door:
    """A launcher, and the raw side of its door."""

    def __init__(self, **more):
        self.more = more

    def __enter__(self):
        self.door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = json.dumps({"nobody": [NOBODY.pw_uid, NOBODY.pw_gid, [NOBODY.pw_gid]]})
        words = [sys.executable, "-I", "-S", launcher.__file__, told, str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, **self.more)
        self.door.settimeout(10)
        return self

    def __exit__(self, *_):
        self.door.close()
        assert self.process.wait(10) == 0
        self.complaints = self.process.stderr.read().decode()
        self.process.stderr.close()

    def ask(self, request, descriptors=None):
        """The control socket of a request; `descriptors` in place of 0, 1, 2 and a control socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(10)
        with theirs, open(os.devnull, "r+b") as nothing:
            passed = [nothing.fileno()] * 3 + [theirs.fileno()] if descriptors is None else descriptors(theirs)
            data = request if isinstance(request, bytes) else json.dumps(request).encode()
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))] if passed else []
            self.door.sendmsg([data], beside)
        return ours

    def hear(self, request, descriptors=None):
        """All that is said of it, until its control socket is closed; b"" is said at its end."""
        with self.ask(request, descriptors) as control:
            said = []
            while data := control.recv(4096):
                said.append(json.loads(data))
                if "died" in said[-1]:
                    control.send(b"end")
            return said

    def works(self):
        """Whether it does what it is for."""
        pid, died = self.hear(GOOD)
        return pid["pid"] > 0 and died == {"died": 0}

    @property
    def descriptors(self):
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


BAD = {
    "nothing but a number": 7,
    "no object": ["nobody"],
    "no JSON": b"\xff\x00\xfe",
    "deep": b"[" * 60_000,
    "a number without end": b'{"user": ' + b"9" * 60_000 + b"}",
    "empty": {},
    "something missing": {key: value for key, value in GOOD.items() if key != "limits"},
    "something more": GOOD | {"uid": 0},
    "no name": GOOD | {"user": 0},
    "a list for a name": GOOD | {"user": ["nobody"]},
    "no arguments": GOOD | {"arguments": []},
    "a text for arguments": GOOD | {"arguments": "/bin/true"},
    "a relative program": GOOD | {"arguments": ["true"]},
    "a NUL": GOOD | {"arguments": ["/bin/true", "a\0b"]},
    "half a character": GOOD | {"arguments": ["/bin/true", "\ud800"]},
    "a number in arguments": GOOD | {"arguments": ["/bin/true", 1]},
    "a variable without a name": GOOD | {"environment": {"": "x"}},
    "a variable with =": GOOD | {"environment": {"A=B": "x"}},
    "a variable with a number": GOOD | {"environment": {"A": 1}},
    "a list for an environment": GOOD | {"environment": []},
    "a relative folder": GOOD | {"folder": "tmp"},
    "an unknown limit": GOOD | {"limits": {"nice": 1}},
    "a limit below nothing": GOOD | {"limits": {"as": -1}},
    "a limit beyond all": GOOD | {"limits": {"as": 1 << 64}},
    "a limit that is true": GOOD | {"limits": {"as": True}},
    "half a limit": GOOD | {"limits": {"as": 0.5}},
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_order_is_refused(name):
    request = BAD[name]
    with pytest.raises(Refused):
        read_order(request if isinstance(request, bytes) else json.dumps(request).encode())
    assert read_order(json.dumps(GOOD).encode()).user == "nobody"


def test_root_is_no_account():
    for told in ('{"root": [0, 0, []]}', '{"toor": [0, 5, []]}', '{"x": [-1, 5, []]}', "[]", "{", '{"x": [1]}'):
        with pytest.raises((ValueError, AttributeError)):
            read_accounts(told)
    words = [sys.executable, "-I", "-S", launcher.__file__, '{"root": [0, 0, []]}', "0"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode == 78
    assert "nothing is run as 'root', whose uid is 0" in ended.stderr


@as_root
def test_bad_requests_are_told_so_and_cost_nothing():
    with Door() as at:
        assert at.works()
        before = at.descriptors
        for request in BAD.values():
            (refusal,) = at.hear(request)
            assert set(refusal) == {"refused"}
        for user in ("root", "daemon", "", "0"):
            (refusal,) = at.hear(GOOD | {"user": user})
            assert refusal == {"refused": "that user isn't one that programs may run as"}
        assert at.works()
        assert at.descriptors == before
    assert "launcher: refused: that user" in at.complaints


@as_root
def test_descriptors_that_arent_what_they_should_be_are_closed():
    with Door() as at, open(os.devnull, "r+b") as nothing, socket.socket() as other:
        assert at.works()
        before = at.descriptors
        fd = nothing.fileno()
        for wrong in (
            lambda _: [],
            lambda control: [fd, fd, control.fileno()],
            lambda control: [fd, fd, fd, fd, control.fileno()],
            lambda control: [fd] * 100 + [control.fileno()],
            lambda _: [fd] * 4,
            lambda _: [fd, fd, fd, other.fileno()],
        ):
            assert at.hear(GOOD, wrong) == [], "nobody knows where to say it"
        at.hear(json.dumps(GOOD).encode() + b" " * launcher.REQUEST)
        at.door.send(b"")  # is no end of the door
        at.door.send(json.dumps(GOOD).encode())
        assert at.works()
        assert at.descriptors == before


@as_root
def test_whatever_is_said_on_a_control_socket_is_the_end():
    sleeps = GOOD | {"arguments": ["/bin/sleep", "1000"]}
    with Door() as at:
        for words in (b"end", b"{}", b"\0" * 64, b""):
            with at.ask(sleeps) as control:
                pid = json.loads(control.recv(4096))["pid"]
                gone = os.pidfd_open(pid)
                if words:
                    control.send(words)
                    assert json.loads(control.recv(4096)) == {"died": -9}
                    assert control.recv(4096) == b""
            assert select.select([gone], [], [], 10)[0], "a closed socket says it too"
            os.close(gone)
        assert at.works()


@as_root
def test_nobody_who_doesnt_listen_stops_it():
    """Control sockets whose other end is closed before anything is said, or that nobody ever reads."""
    with Door() as at:
        unread = [at.ask(GOOD) for _ in range(30)]
        for _ in range(30):
            at.ask(GOOD | {"arguments": ["/bin/sleep", "1000"]}).close()
        assert at.works()
        for control in unread:
            control.close()
        assert at.works()


@as_root
def test_no_group_of_the_launchers_is_left():
    with Door(extra_groups=[0, 1, 4]) as at, tempfile.TemporaryFile() as said:
        at.hear(
            GOOD | {"arguments": ["/bin/sh", "-c", "id -G"], "environment": {"PATH": os.defpath}},
            lambda control: [said.fileno()] * 3 + [control.fileno()],
        )
        said.seek(0)
        assert said.read() == f"{NOBODY.pw_gid}\n".encode()
