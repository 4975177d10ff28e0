"""Dialogues with the POP3 machine, as text: run whole, octet by octet, and cut at every place.

Lines of a scene: `P:` a profile setting, `H:` an answer of the house (question, text in it or `*`, the reply), `S:`
what the server says, `C:` a line of the client, `c:` raw octets of it with Python escapes, `D:` the numbers deleted at
the end, `TLS` the handshake, `EOF` the client's end, `CLOSED` the server's, `#` a remark. `ONLY whole`: the scene is
about what arrives too early, so it isn't cut.
"""

from __future__ import annotations

import re
from ast import literal_eval
from pathlib import Path as File

import pytest

from gatepost.wire.pop3.server import Profile, Reply, ServerSession
from scenes.pop3_machine.maildrop_house import STAMP, MaildropHouse

SCENES = sorted(File(__file__).parent.glob("*.txt"))
REPLY = re.compile(r"(\+OK|-ERR)(?: \[([A-Z0-9/-]+)\])?(?: (.*))?")


def octets(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def reply(words: str) -> Reply:
    found = REPLY.fullmatch(words)
    assert found
    return Reply(found[1] == "+OK", found[3] or "", found[2] or "")


class Play:
    """One scene, with the client's flights cut by `cut`: 0 whole, -1 octet by octet, n after the n-th octet of all."""

    def __init__(self, scene: File, cut: int) -> None:
        self.lines = [line for line in scene.read_text("utf-8").splitlines() if line and not line.startswith("#")]
        self.cut = cut
        self.sent = 0
        settings = (line[2:].partition("=") for line in self.lines if line.startswith("P:"))
        profile = {name.strip(): literal_eval(value.strip()) for name, _, value in settings}
        implicit = bool(profile.pop("tls", False))
        self.house = MaildropHouse(ServerSession(Profile(**profile), tls=implicit, timestamp=STAMP))
        for line in self.lines:
            if line.startswith("H:"):
                question, text, words = line[2:].split(maxsplit=2)
                self.house.answers.append((question, "" if text == "*" else text, reply(words)))

    def run(self) -> None:
        self.house.run()
        flight, expected = b"", ""
        for line in [*self.lines, "END"]:
            kind, rest = line[:2], line[3:]
            if kind in ("S:", "D:") or line in ("TLS", "EOF", "CLOSED"):
                self.send(flight)
                flight = b""
            if kind != "S:" and expected:
                self.heard(expected)
                expected = ""
            match kind:
                case "C:":
                    flight += rest.encode() + b"\r\n"
                case "c:":
                    flight += octets(rest)
                case "S:":
                    expected += rest + "\r\n"
                case "D:":
                    assert self.house.deleted == {int(number) for number in rest.split()}
            if line == "TLS":
                self.house.session.tls_started()
            elif line == "EOF":
                self.house.receive(b"")
            elif line == "CLOSED":
                assert self.house.session.wants_close
        self.heard(expected)

    def send(self, flight: bytes) -> None:
        if self.cut < 0:
            pieces = [flight[at : at + 1] for at in range(len(flight))]
        else:
            at = min(max(self.cut - self.sent, 0), len(flight))
            pieces = [flight[:at], flight[at:]]
        self.sent += len(flight)
        for piece in pieces:
            if piece:
                self.house.receive(piece)

    def heard(self, expected: str) -> None:
        assert self.house.output.decode() == expected
        self.house.output = b""


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.stem)
def test_pop3_scene(scene: File) -> None:
    whole = Play(scene, 0)
    whole.run()
    if "ONLY whole" in whole.lines:
        return
    Play(scene, -1).run()
    for cut in range(1, whole.sent):
        Play(scene, cut).run()


def test_there_are_pop3_scenes() -> None:
    assert len(SCENES) >= 10
