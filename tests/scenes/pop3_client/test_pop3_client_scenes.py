"""Dialogues of the POP3 client machine, as text: run whole, octet by octet, and cut at every place.

Lines of a scene: `S:` what the server says, `s:` raw octets of it with Python escapes, `>` a call of the machine, `C:`
what it says, `E:` what it tells (pieces joined), `TLS` the handshake, `EOF` the server's end, `#` a remark.
`ONLY whole`: the scene is about what comes in one piece, so it isn't cut.
"""

from __future__ import annotations

from ast import literal_eval
from pathlib import Path as File

import pytest

from gatepost.wire.pop3.client import Client
from gatepost.wire.pop3.client_events import (
    NEED_DATA,
    Answered,
    Challenge,
    Closed,
    Complete,
    Event,
    Names,
    Piece,
    ProtocolError,
    Sizes,
)

SCENES = sorted(File(__file__).parent.glob("*.txt"))


def octets(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def told(events: list[Event]) -> list[str]:
    """One line for each, with what came in several pieces joined."""
    lines: list[str] = []
    content = b""
    for event in events:
        if content and not isinstance(event, Piece):
            lines.append(f"piece {content.decode('latin-1')!r}")
            content = b""
        match event:
            case Answered(ask, reply, number):
                lines.append(" ".join(filter(None, (ask.value or "greeting", str(number or ""), str(reply)))))
            case Challenge(data):
                lines.append(f"challenge {data.decode()!r}")
            case Sizes(entries) | Names(entries):
                lines += [f"{'size' if isinstance(event, Sizes) else 'name'} {n} {what}" for n, what in entries]
            case Piece(data):
                content += data
            case Complete(ask, number):
                lines.append(f"whole {ask.value}" + (f" {number}" if number else ""))
            case Closed(reply):
                lines.append("closed" if reply is None else f"closed {reply}")
            case ProtocolError(text):
                lines.append(f"broken {text}")
    return [*lines, f"piece {content.decode('latin-1')!r}"] if content else lines


class Play:
    """One scene, with the server's flights cut by `cut`: 0 whole, -1 octet by octet, n after the n-th octet of all."""

    def __init__(self, scene: File, cut: int) -> None:
        self.lines = [line for line in scene.read_text("utf-8").splitlines() if line and not line.startswith("#")]
        self.cut = cut
        self.heard = 0
        self.client = Client()
        self.events: list[Event] = []
        self.said = b""

    def run(self) -> None:
        flight = b""
        expected: list[str] = []
        for line in [*self.lines, "END"]:
            kind, _, rest = line.partition(" ")
            if kind not in ("S:", "s:"):
                self.hear(flight)
                flight = b""
            if kind != "E:" and expected:
                assert told(self.events) == expected
                self.events, expected = [], []
            match kind:
                case "S:":
                    flight += rest.encode() + b"\r\n"
                case "s:":
                    flight += octets(rest)
                case ">":
                    call, _, arguments = rest.partition(" ")
                    getattr(self.client, call)(*literal_eval(f"({arguments},)" if arguments else "()"))
                    self.drain()
                case "C:":
                    line_said, _, self.said = self.said.partition(b"\r\n")
                    assert line_said.decode() == rest
                case "E:":
                    expected.append(rest)
                case "TLS":
                    self.client.tls_started()
                case "EOF":
                    self.client.receive(b"")
                    self.drain()
        assert not self.said and not self.events

    def drain(self) -> None:
        while (event := self.client.next_event()) is not NEED_DATA:
            self.events.append(event)
        self.said += self.client.data_to_send()

    def hear(self, flight: bytes) -> None:
        if self.cut < 0:
            pieces = [flight[at : at + 1] for at in range(len(flight))]
        else:
            at = min(max(self.cut - self.heard, 0), len(flight))
            pieces = [flight[:at], flight[at:]]
        self.heard += len(flight)
        for piece in pieces:
            if piece:
                self.client.receive(piece)
                self.drain()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.stem)
def test_pop3_client_scene(scene: File) -> None:
    whole = Play(scene, 0)
    whole.run()
    if "ONLY whole" in whole.lines:
        return
    Play(scene, -1).run()
    for cut in range(1, whole.heard):
        Play(scene, cut).run()


def test_there_are_pop3_client_scenes() -> None:
    assert len(SCENES) >= 10
