"""The signing plugin: who signs for whom, with which keys at which time, and what is noted where nobody does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import dkim
import pytest

from gatepost.checks.dkim import Dkim, Signer, TimedKey, author_domain
from gatepost.content.dkim import SigningKey, Style
from gatepost.content.dkim_canonical import Canonical
from gatepost.content.dkim_keys import Algorithm, make_key
from gatepost.content.headers import read_section
from gatepost.content.view import View
from gatepost.hooks.stages import OutMessage
from gatepost.model import Bytes, Path, Recipient

KEY = make_key(Algorithm.ED25519)[0]
OTHER = make_key(Algorithm.ED25519)[0]
NOW = 1_700_000_000.0
LETTER = b"From: Ann <ann@%s>\r\nSubject: a\r\n\r\nhello\r\n"


def signer(domain: str, *keys: TimedKey, match: tuple[str, ...] = (), style: Style | None = None) -> Signer:
    keys = keys or (TimedKey(SigningKey(domain, "s1", KEY)),)
    return Signer(domain, match or (domain, f"*.{domain}"), keys, style or Style())


class Asked:
    """One event: what is signed, and what was noted."""

    def __init__(
        self, content: bytes, sender: str = "", now: float = NOW, recipients: Sequence[str] = ("bob@y.example",)
    ) -> None:
        self.view = View(Bytes(content))
        self.notes: dict[str, object] = {}
        self.event = SimpleNamespace(
            message=self.view,
            sender=Path.parse(sender),
            recipients=[Recipient(Path.parse(one)) for one in recipients],
            server=SimpleNamespace(clock=SimpleNamespace(unix=lambda: (now, 0))),
            note=self.notes.update,
            transaction=None,
            capabilities={"8BITMIME": ""},
        )

    async def by(self, *signers: Signer, is_open: Callable[[Path], bool] = lambda recipient: False) -> list[str]:
        """The selectors and domains that signed, the uppermost first."""
        await Dkim(signers, is_open).sign(cast(OutMessage, self.event))
        tags: list[dict[str, Any]] = [
            dict(tag.strip().split("=", 1) for tag in value.split(";"))
            for value in self.view.headers.all("DKIM-Signature")
        ]
        return [f"{one['s']} {one['d']}" for one in tags]


@pytest.mark.parametrize(
    ("author", "sender", "signed"),
    [
        ("example.org", "ann@example.org", ["s1 example.org"]),
        ("EXAMPLE.org", "ann@example.net", ["s1 example.org"]),
        ("sub.example.org", "", ["s1 example.org"]),
        ("own.example.org", "", ["s1 own.example.org"]),
        ("example.com", "ann@example.org", ["s1 example.org"]),
        ("example.com", "ann@example.com", []),
        ("badexample.org", "", []),
        ("example.org.evil.example", "", []),
        ("bücher.example", "", ["s1 xn--bcher-kva.example"]),
    ],
)
async def test_who_signs(author: str, sender: str, signed: list[str]) -> None:
    asked = Asked(LETTER.replace(b"%s", author.encode()), sender)
    signers = [signer("example.org"), signer("own.example.org"), signer("xn--bcher-kva.example")]
    assert await asked.by(*signers) == signed


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b"ann@example.org", "example.org"),
        (b'"eve@evil.example" <ann@example.org>', "example.org"),
        (b"=?utf-8?q?eve=40evil=2Eexample=2C?= <ann@example.org>", "example.org"),
        (b"(eve@evil.example) ann@example.org", "example.org"),
        (b"Ann\r\n <ann@example.org>", "example.org"),
        (b"nobody", ""),
        (b"<ann@exa mple>", ""),
        (b"", ""),
    ],
)
def test_whose_mail_it_is_says_what_is_written(value: bytes, domain: str) -> None:
    found = author_domain(read_section(Bytes(b"From: " + value + b"\r\n\r\n")))
    assert (found or "") in (domain, "example") if value == b"<ann@exa mple>" else found == domain


async def test_patterns_of_other_domains() -> None:
    group = signer("example.org", match=("example.org", "*.example.net"))
    assert await Asked(LETTER.replace(b"%s", b"a.example.net")).by(group) == ["s1 example.org"]
    assert await Asked(LETTER.replace(b"%s", b"a.example.org")).by(group) == []


async def test_each_key_signs_in_its_time() -> None:
    old = TimedKey(SigningKey("example.org", "old", KEY), ends=NOW)
    new = TimedKey(SigningKey("example.org", "new", OTHER), begins=NOW - 100)
    domain = signer("example.org", old, new)
    letter = LETTER.replace(b"%s", b"example.org")
    assert await Asked(letter, now=NOW - 200).by(domain) == ["old example.org"]
    assert sorted(await Asked(letter, now=NOW - 50).by(domain)) == ["new example.org", "old example.org"]
    assert await Asked(letter, now=NOW).by(domain) == ["new example.org"]
    late = Asked(letter, now=NOW + 10)
    assert await late.by(signer("example.org", old)) == []
    assert late.notes == {"dkim": "unsigned: no key of example.org signs today"}


async def test_what_cant_be_signed_goes_as_it_is() -> None:
    twice = Asked(b"From: ann@example.org\r\nFrom: eve@example.com\r\n\r\nb\r\n")
    assert await twice.by(signer("example.org")) == []
    assert twice.notes == {"dkim": "unsigned: it has more than one From"}


@pytest.mark.parametrize("how", [*Canonical])
async def test_what_comes_out_verifies(how: Canonical) -> None:
    big = LETTER.replace(b"%s", b"example.org") + b"a line  of text \t\r\n" * 20_000
    asked = Asked(big)
    asked.view.headers.add("X-Scanned", "by an earlier plugin ü")
    assert await asked.by(signer("example.org", style=Style(how, how))) == ["s1 example.org"]
    assert asked.notes == {"dkim": "s1._domainkey.example.org"}
    record = KEY.public_record().encode()
    assert dkim.verify(asked.view.blob.read(), dnsfunc=lambda name, timeout=5: record)


@pytest.mark.parametrize(
    ("recipients", "signs"),
    [
        (["bob@y.example"], True),
        (["ann@in.example"], False),
        (["ann@in.example", "eve@in.example"], False),
        (["ann@in.example", "bob@y.example"], True),  # who may send to bob isn't anyone
    ],
)
async def test_what_anyone_may_have_brought_isnt_signed(recipients: list[str], signs: bool) -> None:
    letter = LETTER.replace(b"%s", b"example.org")
    asked = Asked(letter, recipients=recipients)
    assert bool(await asked.by(signer("example.org"), is_open=lambda path: path.domain == "in.example")) is signs
    assert ("anyone" in str(asked.notes)) is not signs
    trusting = replace(signer("example.org"), strangers=True)
    assert await Asked(letter, recipients=recipients).by(trusting, is_open=lambda path: True)
