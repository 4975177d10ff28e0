"""Fuzz target: any octets as what a domain publishes or an address holds: MTA-STS records and policies, TLSA records,
certificates, and return paths that look like ours.
"""

from __future__ import annotations

from fuzz.hunting import hunt
from gatepost.content.batv import Batv
from gatepost.content.srs import Srs
from gatepost.delivery.tls_reports import report_places
from gatepost.model import AddressError, Path, xtext
from gatepost.net.dane import Tlsa, find_anchors, names_match, usable
from gatepost.net.mta_sts import Policy, PolicyInvalid, policy_id

NOW = 1_700_000_000.0
SRS = Srs("mx.example", (b"a secret",))
BATV = Batv((b"a secret",))
SEEDS = (
    b"version: STSv1\nmode: enforce\nmx: *.example.org\nmx: mx.example.org\nmax_age: 86400\n",
    b"version:STSv1\r\nmode:none\r\nmax_age:99999999999\r\n",
    b"v=STSv1; id=20260101000000Z;",
    b"v=TLSRPTv1; rua=mailto:tls@example.org,https://example.org/r",
    b"3 1 1 " + b"ab" * 32,
    b"2 0 0 3082000a30820006a003020102020101",
    b"2 0 2 " + b"cd" * 64,
    SRS.forward(Path.parse("ann@example.org"), NOW).local.encode(),  # type: ignore[union-attr]
    BATV.sign(Path.parse("ann@mx.example"), NOW).local.encode(),  # type: ignore[union-attr]
    b"SRS1=ABCDEF=example.org==HHHH=TT=a.example=b",
    b"rfc822;ann+2Btag@example.org",
    b"utf-8;\\x{FC}@example.org",
)


def one_input(data: bytes) -> None:
    """Nothing raises but what says so, nothing forged is read back, and what is taken holds no line end."""
    text = data.decode("utf-8", "replace")
    check_sts(text)
    check_tlsa(data, text)
    check_return_path(text)
    for told in (xtext.decode(text), *(xtext.original_recipient(text) or ())):
        assert told is None or told.isprintable()


def check_sts(text: str) -> None:
    """A policy, or PolicyInvalid; a policy's own lines give it again."""
    try:
        policy = Policy.parse(text)
    except PolicyInvalid:
        pass
    else:
        assert Policy.parse("\n".join(policy.lines)) == policy
        assert all(line.isprintable() for line in policy.lines)
        assert not policy.admits("")
    found = policy_id([text])
    assert found is None or found.isalnum()
    for way in report_places([text]):
        assert way.isprintable()


def check_tlsa(data: bytes, text: str) -> None:
    """Records and certificates that aren't any are no use, and that is all."""
    record = Tlsa.parse(text)
    records = [
        one for one in (record, *(Tlsa(u, s, m, data) for u in (2, 3) for s in (0, 1) for m in (0, 1, 2))) if one
    ]
    good = usable(records)
    find_anchors(good, [data, b"", b"\x30"])
    for one in good:
        one.matches(data)
        assert Tlsa.parse(str(one)) == one
    names_match([text, "*." + text], [text, "." + text, "mx.example"])


def check_return_path(local: str) -> None:
    """Who hasn't the secret makes none that is read back; whoever has it gets the sender again."""
    try:
        path = Path.parse(f"{local}@mx.example")
    except AddressError:
        return
    original = SRS.reverse(path, NOW)
    if original is not None:
        assert local.upper().startswith(("SRS0", "SRS1"))
        again = SRS.forward(original, NOW)
        assert again is not None
    original = BATV.check(path, NOW)
    assert original is None or local.lower().startswith("prvs=")
    for made, back in ((SRS.forward(path, NOW), SRS.reverse), (BATV.sign(path, NOW), BATV.check)):
        if made is not None and not SRS.is_at_home(path):
            read = back(made, NOW)
            assert read is not None
            assert read.address.lower() == path.address.lower()


if __name__ == "__main__":
    hunt(one_input, SEEDS)
