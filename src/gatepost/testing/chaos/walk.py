"""Sessions by number: a weighted walk over what a client may do next, and off it.

`generate(seed, knobs)` gives the same octets for ever, on every machine; `EDITION` is raised whenever that has to
change, and stands beside the seed wherever one is told. The walk supposes that everything it says is taken; what isn't
taken makes the rest inappropriate, which is wanted too. Octets that make sense only behind a certain reply say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from gatepost.testing.chaos import words
from gatepost.testing.chaos.dice import Dice, Weighted
from gatepost.testing.chaos.steps import ANY, Handshake, HangUp, Hear, Send, Session, Shut, Step
from gatepost.testing.chaos.words import Knobs

EDITION = 1
_HEAR, _SHUT, _HANG_UP = Hear(), Shut(), HangUp()
_USUAL = Knobs()


class _At(Enum):
    """Where the client thinks it is."""

    GREETED = "before EHLO"
    READY = "between transactions"
    MAIL = "sender told"
    RCPT = "recipients told"


def generate(seed: int, knobs: Knobs = _USUAL) -> Session:
    """The session of that number."""
    return Session(seed, tuple(_Walk(Dice(seed), knobs).steps()))


class _Walk:
    def __init__(self, dice: Dice, knobs: Knobs) -> None:
        self.dice = dice
        self.knobs = knobs
        self.at = _At.GREETED
        self.done: list[Step] = []
        self.waits = 100 if dice.chance(65) else dice.pick((0, 30, 60))
        """In how many of a hundred cases it hears what it has asked before it goes on."""
        self.tears = 0 if dice.chance(75) else dice.pick((10, 40, 100))
        """How many of a hundred pieces are torn."""

    def steps(self) -> list[Step]:
        dice = self.dice
        if dice.chance(96):
            self.done.append(_HEAR)
        for _ in range(dice.between(1, 2 * self.knobs.moves)):
            dice.weighed(_MOVES)(self)
        self._end()
        if self.knobs.hang_ups and dice.chance(12):
            self._break_off()
        return self.done

    # ── moves ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _go_on(self) -> None:
        """What a client would do next."""
        self.dice.weighed(_NEXT[self.at])(self)

    def _hello(self) -> None:
        self._say(words.hello(self.dice, self.knobs))
        self.at = _At.READY

    def _mail(self) -> None:
        self._say(words.mail(self.dice, self.knobs))
        self.at = _At.MAIL

    def _rcpt(self) -> None:
        self._say(words.rcpt(self.dice, self.knobs))
        self.at = _At.RCPT

    def _data(self) -> None:
        dice, knobs = self.dice, self.knobs
        self.at = _At.READY
        if dice.chance(3):  # without waiting for the 354
            self._put(b"DATA\r\n" + words.after_data(dice, knobs))
            self.done.append(_HEAR)
            return
        self._put(b"DATA\r\n")
        self.done.append(_HEAR)
        behind = b"" if dice.chance(80) else words.anything(dice, knobs)
        self._put(words.after_data(dice, knobs) + behind, after=354 if dice.chance(96) else ANY)
        self._maybe_hear()

    def _chunks(self) -> None:
        dice, knobs = self.dice, self.knobs
        self.at = _At.READY
        text = words.content(dice, knobs)[:20_000]
        for count in range(dice.between(0, 3)):
            cut = dice.between(0, len(text))
            self._put(words.chunk_head(dice, cut, last=False) + text[:cut])
            text = text[cut:]
            if count and dice.chance(20):
                self._any()
        self._maybe_hear()
        told = len(text)
        if dice.chance(10):  # a size that isn't the content's
            told = max(0, told + dice.pick((-1, 1, -5, 5)))
        self._put(words.chunk_head(dice, told, last=dice.chance(90)) + text)
        self._maybe_hear()

    def _odd_chunk(self) -> None:
        self._say(words.odd_chunk(self.dice, self.knobs))

    def _reset(self) -> None:
        self._say(b"RSET\r\n")
        if self.at is not _At.GREETED:
            self.at = _At.READY

    def _any(self) -> None:
        self._say(words.anything(self.dice, self.knobs))

    def _odd(self) -> None:
        self._say(
            words.odd_path(self.dice, self.knobs) if self.dice.chance(80) else words.odd_hello(self.dice, self.knobs)
        )

    def _unknown(self) -> None:
        self._say(words.unknown(self.dice, self.knobs))

    def _malformed(self) -> None:
        self._say(words.malformed(self.dice, self.knobs))

    def _bounds(self) -> None:
        self._say(words.at_bounds(self.dice, self.knobs))

    def _alien(self) -> None:
        if self.dice.chance(30):
            self._say(words.alien(self.dice, self.knobs))

    def _own_verb(self) -> None:
        """A verb of the plugin's, and octets for it; without one, a command."""
        dice, knobs = self.dice, self.knobs
        if not knobs.verbs:
            self._any()
            return
        self._put(words.own_verb(dice, knobs))
        self.done.append(_HEAR)
        for _ in range(dice.between(1, 4)):
            self._put(words.for_a_verb(dice, knobs), after=3 if dice.chance(85) else ANY)
            self.done.append(_HEAR)

    def _auth(self) -> None:
        dice, knobs = self.dice, self.knobs
        self._put(words.auth(dice, knobs))
        if dice.chance(4):
            self._put(words.sasl_response(dice, knobs))  # without waiting
        self.done.append(_HEAR)
        for _ in range(dice.between(0, 3)):
            self._put(words.sasl_response(dice, knobs), after=334)
            self.done.append(_HEAR)

    def _start_tls(self) -> None:
        dice, knobs = self.dice, self.knobs
        if not knobs.tls:
            self._any()
            return
        injected = b"" if dice.chance(60) else words.anything(dice, knobs)  # attack T1
        self.done.append(_HEAR)
        self.done.append(Send(b"STARTTLS\r\n" + injected))
        self.done.append(_HEAR)
        self.done.append(Handshake() if dice.chance(85) else Handshake(dice.octets(dice.between(1, 60))))
        self.at = _At.GREETED

    def _flood(self) -> None:
        """The same again and again."""
        line = self.dice.pick(
            (
                b"NOOP\r\n",
                b"XYZZY\r\n",
                b"RSET\r\n",
                b"\r\n",
                b"VRFY ann\r\n",
                b"EHLO x\r\n",
                b"RCPT TO:<ann@example.org>\r\n",
            )
        )
        self._put(line * self.dice.between(5, 60))
        self.done.append(_HEAR)

    # ── how it is sent ─────────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, octets: bytes) -> None:
        self._put(octets)
        self._maybe_hear()

    def _maybe_hear(self) -> None:
        if self.dice.chance(self.waits):
            self.done.append(_HEAR)

    def _put(self, octets: bytes, after: int = ANY) -> None:
        dice = self.dice
        if len(octets) < 2 or not dice.chance(self.tears):
            self.done.append(Send(octets, after))
            return
        if len(octets) <= 24 and dice.chance(30):
            self.done += (Send(octets[at : at + 1], after) for at in range(len(octets)))
            return
        for _ in range(dice.between(1, 3)):
            if len(octets) < 2:
                break
            cut = dice.between(1, len(octets) - 1)
            if dice.chance(50):  # where it hurts: around the last octets
                cut = max(1, len(octets) - dice.between(1, 6))
            self.done.append(Send(octets[:cut], after))
            octets = octets[cut:]
        self.done.append(Send(octets, after))

    # ── how it ends ────────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self) -> None:
        dice = self.dice
        kind = dice.below(100) if self.knobs.hang_ups else 0
        if kind < 75:
            self.done += (Send(b"QUIT\r\n"), _HEAR)
        elif kind < 80:
            self.done += (Send(b"QUIT\r\n" + words.anything(dice, self.knobs)), _HEAR)
        elif kind < 90:
            self.done.append(_SHUT)
        else:
            self.done.append(_HANG_UP)

    def _break_off(self) -> None:
        """At any octet of anything it would have sent."""
        dice = self.dice
        sends = [at for at, step in enumerate(self.done) if isinstance(step, Send) and step.octets]
        if not sends:
            return
        at = dice.pick(sends)
        step = self.done[at]
        assert isinstance(step, Send)
        end: Step = _SHUT if dice.chance(50) else _HANG_UP
        self.done[at:] = (Send(step.octets[: dice.below(len(step.octets)) + 1], step.after), end)


_Move = Callable[[_Walk], None]
_MOVES: Weighted[_Move] = Weighted(
    (56, _Walk._go_on), (11, _Walk._any), (8, _Walk._odd), (4, _Walk._unknown), (7, _Walk._malformed),
    (5, _Walk._bounds), (4, _Walk._auth), (2, _Walk._start_tls), (3, _Walk._own_verb), (1, _Walk._odd_chunk),
    (1, _Walk._flood), (1, _Walk._alien),
)  # fmt: skip
_NEXT: Mapping[_At, Weighted[_Move]] = {
    _At.GREETED: Weighted((95, _Walk._hello), (5, _Walk._mail)),
    _At.READY: Weighted((85, _Walk._mail), (5, _Walk._hello), (5, _Walk._reset), (5, _Walk._any)),
    _At.MAIL: Weighted((90, _Walk._rcpt), (3, _Walk._reset), (4, _Walk._data), (3, _Walk._mail)),
    _At.RCPT: Weighted((55, _Walk._data), (22, _Walk._rcpt), (15, _Walk._chunks), (5, _Walk._reset), (3, _Walk._hello)),
}
