"""Reception and delivery agree: the gate that takes a recipient and the route its mail goes by are the same one's,
whoever the sender and the user are. And no sender opens a route that isn't open.
"""

from __future__ import annotations

from unittest.mock import Mock

from hypothesis import given
from hypothesis import strategies as st

from gatepost.app.gates import delivery_routes, gates
from gatepost.app.settings import Settings
from gatepost.model import NULL_PATH, Path, Recipient
from gatepost.serving.house import GateHouse, OpenTo

ADDRESS = st.sampled_from(["ann@a.example", "bob@a.example", "ann@b.example", "bob@b.example", "x@sub.b.example"])
SENDER = st.one_of(st.just(NULL_PATH), ADDRESS.map(Path.parse))
USER = st.one_of(st.none(), ADDRESS, st.just("ann"))
MATCH = st.sampled_from(["*", "*@a.example", "ann@*", "*@*.example", "bob@b.example"])
FROM = st.lists(
    st.sampled_from(["*@a.example", "ann@*", "<>", "user:ann", "user:*@b.example", "user:*", "*", "bob@b.example"]),
    max_size=3,
)
ROUTES = st.lists(st.tuples(MATCH, FROM), min_size=1, max_size=5)


@given(ROUTES, ADDRESS, SENDER, USER)
def test_the_gate_and_the_route_are_of_one_rule(routes, address, sender, user):
    settings = Settings.in_memory(
        hostname="mx.here.example",
        route=[
            {"match": match, "from": list(senders), "deliver": f"relay 192.0.2.{at}", "for": "authenticated"}
            for at, (match, senders) in enumerate(routes, start=1)
        ],
    )
    recipient = Recipient(Path.parse(address))
    house = GateHouse(gates(settings, admission=Mock(), room=Mock(), ask=Mock(), hand_over=Mock()))
    gate = house.gate_for(recipient, sender, user)
    route = delivery_routes(settings).find(recipient.path, sender, user)
    assert (gate is None) is (route is None)
    if gate is not None and route is not None:
        assert (gate.match, gate.senders) == (route.match[0], route.senders)
        assert gate.open_to is OpenTo.AUTHENTICATED
    first = next(
        (at for at, (match, senders) in enumerate(routes, 1) if fits(match, senders, recipient.path, sender, user)),
        None,
    )
    found = None if route is None else int(route.action.hosts[0].name.rpartition(".")[2])
    assert found == first


def fits(match: str, senders: list[str], to: Path, sender: Path, user: str | None) -> bool:
    """The same, said in another way."""
    if match != "*" and not to.matches(match):
        return False
    if not senders:
        return True
    users = [one.removeprefix("user:") for one in senders if one.startswith("user:")]
    others = [one for one in senders if not one.startswith("user:")]
    if user is not None and ("*" in users or ("ann" in users and user.split("@")[0] == "ann")):
        return True
    if user is not None and "*@b.example" in users and user.endswith("@b.example"):
        return True
    if not sender:
        return "<>" in others
    return any(one != "<>" and sender.matches(one) for one in others)
