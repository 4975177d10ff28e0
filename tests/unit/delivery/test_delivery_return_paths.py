"""Which return path a message leaves with."""

from __future__ import annotations

import pytest

from gatepost.content.batv import Batv, is_signed
from gatepost.content.srs import Srs
from gatepost.delivery.return_paths import ReturnPaths
from gatepost.delivery.route import Host, Lmtp, Mx, Relay
from gatepost.model import NULL_PATH, Path, Recipient

NOW = 1_800_000_000.0
EVE, ANN = Path.parse("eve@foreign.example"), Path.parse("ann@own.example")
OUT, INSIDE = (Recipient(Path.parse(address)) for address in ("bob@else.example", "cat@own.example"))
MX, RELAY, LMTP = Mx("else.example"), Relay((Host("inner"),)), Lmtp((Host("inner"),))
SRS = Srs("own.example", (b"a secret of ours",))
BATV = Batv((b"another secret",))


def paths(**changed: object) -> ReturnPaths:
    facts: dict[str, object] = {"srs": SRS, "batv": BATV, "relayed": ("*@else.example",)}
    return ReturnPaths(lambda path: path.domain == "own.example", **(facts | changed))  # type: ignore[arg-type]


def left(sender: Path, hop: Mx | Relay | Lmtp, *to: Recipient, user: str | None = None, **changed: object) -> Path:
    return paths(**changed).of(sender, user, hop, to, NOW)


def test_a_foreign_sender_is_rewritten_where_its_mail_is_forwarded() -> None:
    for hop in (MX, RELAY):
        made = left(EVE, hop, OUT)
        assert made.domain == "own.example"
        assert SRS.reverse(made, NOW) == EVE


@pytest.mark.parametrize(
    ("sender", "hop", "to", "user", "changed"),
    [
        (NULL_PATH, MX, OUT, None, {}),
        (EVE, LMTP, OUT, None, {}),
        (EVE, RELAY, INSIDE, None, {}),
        (EVE, RELAY, OUT, None, {"relayed": ()}),
        (EVE, MX, OUT, "ann", {}),
        (EVE, MX, OUT, None, {"srs": None}),
        (ANN, MX, OUT, None, {"batv": None}),
        (ANN, MX, OUT, "ann", {"is_signing": lambda path: False}),
        (ANN, RELAY, INSIDE, None, {}),
        (ANN, LMTP, OUT, None, {}),
        (Path.parse("x" * 60 + "@own.example"), MX, OUT, None, {}),
        (Path.parse("x" * 60 + "@foreign.example"), MX, OUT, None, {}),
    ],
)
def test_everything_else_leaves_as_it_came(sender, hop, to, user, changed) -> None:
    assert left(sender, hop, to, user=user, **changed) is sender


def test_a_sender_of_ours_is_signed_where_mail_leaves_for_others() -> None:
    made = left(ANN, MX, INSIDE, OUT, user="ann")
    assert is_signed(made)
    assert BATV.check(made, NOW) == ANN
