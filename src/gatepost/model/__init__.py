"""The nouns everybody shares: frozen facts without behaviour of their own, imported by every room, importing none."""

from gatepost.model.blob import Blob, Bytes
from gatepost.model.edits import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    ContentEdit,
    DeleteHeader,
    Edit,
    HeaderEdit,
    Keep,
    RemoveRecipient,
    ReplaceBody,
    ReplaceMessage,
    ReplacePart,
    Split,
)
from gatepost.model.envelope import Body, Envelope, Recipient
from gatepost.model.facts import fact
from gatepost.model.message import Headers, Message, Part
from gatepost.model.path import NULL_PATH, AddressError, Path, glob_matches
from gatepost.model.peer import Address, Peer, Tls
from gatepost.model.reply import Reply
from gatepost.model.ticket import Ticket, TokenError, token_at, token_time

__all__ = [
    "NULL_PATH",
    "AddHeader",
    "AddRecipient",
    "Address",
    "AddressError",
    "Blob",
    "Body",
    "Bytes",
    "ChangeHeader",
    "ChangeSender",
    "ContentEdit",
    "DeleteHeader",
    "Edit",
    "Envelope",
    "HeaderEdit",
    "Headers",
    "Keep",
    "Message",
    "Part",
    "Path",
    "Peer",
    "Recipient",
    "RemoveRecipient",
    "ReplaceBody",
    "ReplaceMessage",
    "ReplacePart",
    "Reply",
    "Split",
    "Ticket",
    "Tls",
    "TokenError",
    "fact",
    "glob_matches",
    "token_at",
    "token_time",
]
