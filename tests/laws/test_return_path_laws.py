"""SRS and BATV: what was made is read back, what somebody else made never is."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from gatepost.content.batv import Batv
from gatepost.content.srs import Srs
from gatepost.model import AddressError, Path

DAY = 86400
LOCALS = st.one_of(
    st.from_regex(r"[a-zA-Z0-9.=+!#$%&'*/?^_`{|}~-]{1,30}", fullmatch=True),
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=12),
    st.sampled_from(
        ["SRS0", "srs1=x", "SRS0=AAAA=AA=b.example=c", "SRS1=AAAA=b.example==AAAA=AA=c.example=d", "prvs=x"]
    ),
)
DOMAINS = st.sampled_from(["b.example", "x.y.b.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "xn--bcher-kva.example"])
TIMES = st.integers(0, 4_000_000_000)
SRS = Srs("fwd.example", (b"first secret", b"second secret"), days=21)
BATV = Batv((b"first secret", b"second secret"), days=7)


@st.composite
def paths(draw: st.DrawFn) -> Path:
    local, domain = draw(LOCALS), draw(DOMAINS)
    try:
        return Path.parse(Path(local, domain).address)
    except AddressError:
        assume(False)
        raise


@given(paths(), TIMES, st.integers(0, 21), st.booleans())
def test_a_bounce_finds_back(sender: Path, now: int, days: int, lowered: bool) -> None:
    made = SRS.forward(sender, now)
    assume(made is not None)
    assert Path.parse(made.address) == made, "it can be written to"
    assert SRS.is_at_home(made)
    if lowered:
        made = Path(made.local.lower(), made.domain)
    found = SRS.reverse(made, now + days * DAY)
    assert found is not None
    if sender.local.upper().startswith("SRS1=AAAA"):
        assert found == Path("SRS0=AAAA=AA=c.example=d", "b.example") or lowered
    elif not lowered:
        assert found == sender
    else:
        assert found.address.lower() == sender.address.lower()


@given(paths(), TIMES, st.integers(22, 1000))
def test_an_old_return_path_is_over(sender: Path, now: int, days: int) -> None:
    made = SRS.forward(sender, now)
    assume(made is not None and made.local.startswith("SRS0"))
    assert SRS.reverse(made, now + days * DAY) is None


@given(paths(), TIMES)
def test_secrets_change_in_turn(sender: Path, now: int) -> None:
    before, between = Srs("fwd.example", (b"old",)), Srs("fwd.example", (b"new", b"old"))
    made = before.forward(sender, now)
    assume(made is not None)
    assert between.reverse(made, now) == before.reverse(made, now) is not None
    assert Srs("fwd.example", (b"new",)).reverse(made, now) is None


@given(paths(), TIMES, st.integers(0, 63), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_forged_one_never_decodes_to_another(sender: Path, now: int, at: int, put: str) -> None:
    made = SRS.forward(sender, now)
    assume(made is not None and at < len(made.local))
    changed = made.local[:at] + put + made.local[at + 1 :]
    assume(changed.lower() != made.local.lower())
    found = SRS.reverse(Path(changed, made.domain), now)
    original = SRS.reverse(made, now)
    assert original is not None
    # the separator behind SRS0 or SRS1 is nobody's secret, and means nothing
    assert found is None or (at == 4 and found.address.lower() == original.address.lower())


@given(st.text(max_size=64), TIMES)
def test_whatever_is_said_nothing_raises(local: str, now: int) -> None:
    for text in (local, f"SRS0={local}", f"SRS1={local}", f"SRS0=AAAAAA=AA=b.example={local}", f"prvs={local}"):
        assert SRS.reverse(Path(text, "fwd.example"), now) is None
        assert BATV.check(Path(text, "b.example"), now) is None


@given(paths(), TIMES, st.integers(0, 7), st.booleans())
def test_a_signature_is_known(sender: Path, now: int, days: int, lowered: bool) -> None:
    signed = BATV.sign(sender, now)
    assume(signed is not None)
    assert Path.parse(signed.address) == signed
    assert signed.domain == sender.domain
    if lowered:
        signed = Path(signed.local.lower(), signed.domain)
    found = BATV.check(signed, now + days * DAY)
    assert found is not None and found.address.lower() == sender.address.lower()
    assert BATV.check(signed, now + 8 * DAY) is None
    assert BATV.check(signed, now - DAY) is None
    assert Batv((b"other", b"second secret")).check(signed, now) is None
    assert Batv((b"other", b"first secret")).check(signed, now) is not None


@given(paths(), TIMES, st.integers(0, 63), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_forged_signature_is_none(sender: Path, now: int, at: int, put: str) -> None:
    signed = BATV.sign(sender, now)
    assume(signed is not None and at < len(signed.local))
    changed = signed.local[:at] + put + signed.local[at + 1 :]
    assume(changed.lower() != signed.local.lower())
    assert BATV.check(Path(changed, signed.domain), now) is None
