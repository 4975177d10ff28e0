"""pMsg on the sending side: what sinks put there is seen by those asked later, until the transaction is over.

The message in the queue stays as it is, and so does what goes out: a sink that changes content or recipients here has
failed, since nothing of it could come true.
"""

from __future__ import annotations

from gatepost.hooks.events import Event
from gatepost.hooks.session import Holder
from gatepost.plugins.sink.asking import SinkFailed
from gatepost.plugins.sink.constants import IMMPID_RP
from gatepost.plugins.sink.message import EventMessage, message_of
from gatepost.plugins.sink.message_kept import Put

_PUT = "what sinks have put on a message that goes out"


def outgoing_message(event: Event) -> EventMessage:
    """pMsg at this event, with what earlier sinks have put there."""
    message = message_of(event)
    put = _put(event)
    if put.message:
        message.properties.update(put.message)
    if put.recipients:
        for one, bag in zip(message.people, message.recipients, strict=True):
            bag.update(put.recipients.get(one.address, {}))
    return message


def remember_puts(event: Event, message: EventMessage) -> None:
    """What the sink has put is there from now on. SinkFailed for what can't be changed any more."""
    if message.rewritten is not None or message.written_list is not None or message.forks:
        raise SinkFailed("content and recipients can't be changed on the way out; OnMessageSubmission can")
    if any(IMMPID_RP.ADDRESS_SMTP in ids for ids in message.put_for.values()):
        raise SinkFailed("recipients can't be changed on the way out; OnMessageSubmission can")
    if not (message.put or message.put_for) or event.turn.is_shadow:
        return
    put = _put(event, make=True)
    put.message.update({id: message.properties[id] for id in message.put if id in message.properties})
    for index, ids in message.put_for.items():
        bag = message.recipients[index]
        put.recipients.setdefault(message.people[index].address, {}).update({id: bag[id] for id in ids if id in bag})


def _put(event: Event, *, make: bool = False) -> Put:
    holder: Holder = event.session.holder if event.transaction is None else event.transaction.holder
    try:
        return holder.get(_PUT, lambda: Put({}, {}) if make else _nothing())
    except LookupError:
        return Put({}, {})


def _nothing() -> Put:
    """Nothing is made where nothing was put."""
    raise LookupError
