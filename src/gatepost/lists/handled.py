"""What a list makes of a message that has come to one of its addresses: new entries, and whether it is done."""

from __future__ import annotations

from gatepost.model import Reply, fact
from gatepost.store import Deposit


@fact
class Handled:
    """`deposits` are committed in the very step that ends the recipient. `refusal`: with a 4xx code it is handled
    again later, with a 5xx code it has failed; None: it is done.
    """

    deposits: tuple[Deposit, ...] = ()
    refusal: Reply | None = None
