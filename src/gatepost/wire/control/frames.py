"""Requests to a running server and what it answers: length-prefixed JSON objects, tagged by their "type".

Strategy: the same frames as plugin hosts have, with JSON inside, which an administrator can read and any language
write. Either side decodes only what the other may say; garbage is a FrameError value, and its reader closes.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gatepost.wire.frames import Decoder, FrameError, prefixed

Number = Annotated[int, Meta(ge=0, le=2**53 - 1)]  # what every JSON reader can hold


class Request(Struct, frozen=True, tag="request"):
    """Do something: an action's name and its arguments. `id` comes back with every answer."""

    id: Number
    action: str
    arguments: dict[str, Any] = {}


class Failure(Struct, frozen=True):
    """Why not: an exit code of sysexits (64 usage, 75 temporary, 78 configuration …), what, and how to mend it."""

    code: Annotated[int, Meta(ge=1, le=255)]
    message: str
    mend: str = ""


class Reply(Struct, frozen=True, tag="reply", omit_defaults=True):
    """The last answer to a request: a result, or an error."""

    id: Number
    result: Any = None
    error: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


class Progress(Struct, frozen=True, tag="progress"):
    """An answer before the last one: a step done, or a line of a stream."""

    id: Number
    facts: dict[str, Any]


def encode(frame: Request | Reply | Progress) -> bytes:
    """The frame for the wire. Raises ValueError over the limit, TypeError for what isn't plain data."""
    return prefixed(_encoder.encode(frame))


def read_requests() -> Decoder[Request]:
    """What the server reads with."""
    return Decoder(partial(_decode, _requests))


def read_replies() -> Decoder[Reply | Progress]:
    """What a client reads with."""
    return Decoder(partial(_decode, _replies))


F = TypeVar("F")
_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply | Progress] = msgspec.json.Decoder(Reply | Progress)


def _decode(json: msgspec.json.Decoder[F], payload: bytes) -> F | FrameError:
    try:
        return json.decode(payload)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        return FrameError(f"not a frame of the control socket: {type(error).__name__}")
