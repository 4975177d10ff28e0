"""The return path a message leaves with: the sender's, or one of ours that stands for it.

A sender of ours is signed (BATV) where mail leaves for somebody else's domain. A foreign sender is rewritten (SRS)
where we forward its mail: where mail that nobody has authenticated for leaves by MX, and where it is relayed to
recipients that the settings name. Everything else leaves as it came; so does what has no room for more, since an
address is at most 64 characters before the @.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatepost.content.batv import Batv
from gatepost.content.srs import Srs
from gatepost.delivery.route import Hop, Lmtp, Mx
from gatepost.model import Path, Recipient


@dataclass(frozen=True, slots=True)
class ReturnPaths:
    """How return paths are made. `is_own` says whether an address is in our domains; `relayed` are patterns of the
    recipients whose mail is forwarded though it leaves by relay; `is_signing` whether a sender of ours is signed.
    """

    is_own: Callable[[Path], bool]
    srs: Srs | None = None
    relayed: tuple[str, ...] = ()
    batv: Batv | None = None
    is_signing: Callable[[Path], bool] = lambda path: True

    def of(
        self, sender: Path, authenticated: str | None, hop: Hop | Mx, recipients: Sequence[Recipient], now: float
    ) -> Path:
        """The return path of mail that leaves this way, at `now` (s, Unix time)."""
        if not sender or isinstance(hop, Lmtp):
            return sender
        if self.is_own(sender):
            if self.batv is None or not self.is_signing(sender) or all(self.is_own(r.path) for r in recipients):
                return sender
            return self.batv.sign(sender, now) or sender
        if self.srs is None or authenticated is not None or not self._forwards(hop, recipients):
            return sender
        return self.srs.forward(sender, now) or sender

    def _forwards(self, hop: Hop | Mx, recipients: Sequence[Recipient]) -> bool:
        if isinstance(hop, Mx):
            return True
        return any(recipient.matches(pattern) for pattern in self.relayed for recipient in recipients)
