"""Delivery empties the spool: schedule, route, attempt, and what happens when it fails for good.

Strategy: what is decided is pure (when the next attempt is, where a recipient's mail goes, who hears of a failure);
what is done is one task per entry, which ends in one settlement. What is not settled is leased no longer than the
process lives, so nothing is lost and little is done twice.
"""

from gatepost.delivery.ahead import CallAhead, Memory
from gatepost.delivery.connection import Timeouts, Unreachable
from gatepost.delivery.destinations import Destinations
from gatepost.delivery.dialer import Dialer
from gatepost.delivery.handover import HandedOver, HandOver
from gatepost.delivery.notice import Policy
from gatepost.delivery.ports import Maildrop, NoMailbox, Observer
from gatepost.delivery.route import (
    Action,
    Calling,
    Discard,
    Hop,
    Host,
    Lmtp,
    Maildir,
    Mx,
    Pool,
    Relay,
    Rotation,
    Route,
    Routes,
)
from gatepost.delivery.runner import Limits, Runner
from gatepost.delivery.schedule import Schedule
from gatepost.delivery.security import Security
from gatepost.net.client_contexts import Contexts

__all__ = [
    "Action",
    "CallAhead",
    "Calling",
    "Contexts",
    "Destinations",
    "Dialer",
    "Discard",
    "HandOver",
    "HandedOver",
    "Hop",
    "Host",
    "Limits",
    "Lmtp",
    "Maildir",
    "Maildrop",
    "Memory",
    "Mx",
    "NoMailbox",
    "Observer",
    "Policy",
    "Pool",
    "Relay",
    "Rotation",
    "Route",
    "Routes",
    "Runner",
    "Schedule",
    "Security",
    "Timeouts",
    "Unreachable",
]
