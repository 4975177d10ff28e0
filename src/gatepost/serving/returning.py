"""Bounces that come back: to return paths that we have rewritten (SRS) or signed (BATV), and to others.

At RCPT a valid return path becomes the address it stands for; everybody who is asked sees that one, and what was
written stays in its `raw`. What the house says is read from there: a return path that we made opens the way to a
foreign sender, to whom nobody could send through us otherwise, and only with the null sender.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gatepost.content.batv import Batv, is_signed
from gatepost.content.srs import Srs
from gatepost.model import AddressError, Path, Reply

NOT_OURS = Reply(550, "5.1.1", "this return address isn't one we made, or its time is over")
ONLY_BOUNCES = Reply(550, "5.7.1", "only bounces are taken for this address")
NEVER_SENT = Reply(550, "5.7.1", "we have sent no mail from this address that could come back")


@dataclass(frozen=True, slots=True)
class Returning:
    """What is known of return paths. `now` gives Unix time in seconds; `signs` says whether mail from an address of
    ours leaves signed; with `refuse_unsigned` bounces to such an address itself are refused.
    """

    now: Callable[[], float]
    srs: Srs | None = None
    batv: Batv | None = None
    signs: Callable[[Path], bool] = lambda path: False
    refuse_unsigned: bool = False

    def original(self, path: Path, sender: Path) -> Path:
        """The address that a recipient's path stands for in mail from this sender; the path itself if it is none of
        ours, or isn't valid.
        """
        found: Path | None = None
        if self.srs is not None and self.srs.is_at_home(path):
            found = None if sender else self.srs.reverse(path, self.now())
        elif self.batv is not None and self.signs(path):
            found = self.batv.check(path, self.now())
        return path if found is None else replace(found, raw=path.address)

    def judge(self, path: Path, sender: Path) -> Reply | bool:
        """What the house says to a recipient, after `original`: a refusal, or whether its mail goes back to a sender
        whose mail we have forwarded.
        """
        if self.srs is not None and self.srs.is_at_home(path):
            return ONLY_BOUNCES if sender else NOT_OURS
        if self.batv is not None and is_signed(path) and self.signs(path):
            return NOT_OURS
        if sender:
            return False
        written = _written(path)
        if self.srs is not None and written is not None and self.srs.reverse(written, self.now()) == path:
            return True
        if not self.refuse_unsigned or self.batv is None or not self.signs(path) or path.local.lower() == "postmaster":
            return False
        is_known = written is not None and self.batv.check(written, self.now()) == path
        return False if is_known else NEVER_SENT


def _written(path: Path) -> Path | None:
    if "=" not in path.raw:
        return None
    try:
        return Path.parse(path.raw)
    except AddressError:
        return None
