"""`gatepost trace`: one line a session, which says so if the session had more messages than the one it names."""

from __future__ import annotations

import pytest

from gatepost.app.cli import main


@pytest.mark.parametrize(("messages", "end"), [(0, ""), (1, ""), (3, "  and 2 more before it")])
def test_a_session_with_several_messages(
    messages: int, end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"token": "0T4CVC-C60009", "ms": 1_795_290_000_000, "outcome": "ACCEPTED", "peer": "192.0.2.1"}
    found |= {"from": "ann@own.example", "to": ["x@far.example"], "messages": messages}
    monkeypatch.setattr("gatepost.app.cli.trace.ask", lambda frame, action, arguments: [found])
    assert main(["trace"]) == 0
    assert capsys.readouterr().out.endswith(f"192.0.2.1       <ann@own.example> → <x@far.example>{end}\n")
