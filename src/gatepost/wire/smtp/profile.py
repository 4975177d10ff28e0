"""What a listener offers and where its limits are: one immutable value shared by all sessions of a generation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from gatepost.wire.smtp import wishes
from gatepost.wire.smtp.states import Protocol

AUTH_LINE = 12288  # rfc4954#4, octets with CRLF
_SIZE_ROOM = 26  # rfc1870#3
_BODY_ROOM = 17  # rfc6152#3
_SMTPUTF8_ROOM = 10  # rfc6531#3.1
_AUTH_ROOM = 500  # rfc4954#5
_REQUIRETLS_ROOM = 11  # rfc8689#2


class BareNewline(Enum):
    """What a CR or LF that stands alone in content comes to: a refusal, or a CRLF. It never passes as it is."""

    REFUSE = "refuse"
    NORMALISE = "normalise"


@dataclass(frozen=True, slots=True)
class Profile:
    """Invariant: an extension that is switched on here is honoured to the end. All lengths are octets.

    A count of N lets N pass; the one after it hears the limit's reply.
    """

    hostname: str
    protocol: Protocol = Protocol.SMTP
    command_line: int = 512  # with CRLF, rfc5321#4.5.3.1.4; MAIL and AUTH get the room their extensions add
    text_line: int = 1000  # with CRLF, rfc5321#4.5.3.1.6; 0: unlimited; over it: 554 5.6.0 at end-of-data
    message_size: int = 50 * 1024 * 1024  # 0: unlimited; over it: 552 5.3.4, at MAIL by SIZE= or at end-of-data
    recipients: int = 1000  # accepted per transaction, then 452 4.5.3
    errors: int = 20  # commands the machine refuses per session, then 421 4.7.0
    junk: int = 100  # commands that bring no mail nearer, since the last message accepted, then 421 4.7.0
    transactions: int = 1000  # MAIL commands per session, then 421 4.7.0
    auth_attempts: int = 3  # failed ones per session, then 421 4.7.0
    bare_newline: BareNewline = BareNewline.REFUSE
    pipelining: bool = True
    smtputf8: bool = True
    chunking: bool = True
    binarymime: bool = False  # only together with chunking
    prdr: bool = True
    dsn: bool = True
    requiretls: bool = False  # offered over TLS only
    starttls: bool = False  # a certificate is configured
    require_tls: bool = False  # MAIL and AUTH without TLS: 530 5.7.0
    require_auth: bool = False  # MAIL without AUTH: 530 5.7.0
    auth: tuple[str, ...] = ()  # SASL mechanisms offered, upper-case, strongest first
    auth_without_tls: bool = False
    xclient: bool = False  # the peer is trusted to say for whom it speaks (Postfix's XCLIENT_README)
    xforward: bool = False  # the same, for the record only (XFORWARD_README)
    ask_lines: bool = False  # raise Line before each command line is parsed
    ask_replies: bool = False  # raise Replying before each reply leaves

    mail_line: int = field(init=False, repr=False, compare=False)
    """The longest MAIL command: each extension with a parameter adds to it."""
    rcpt_line: int = field(init=False, repr=False, compare=False)
    """The longest RCPT command."""
    longest_line: int = field(init=False, repr=False, compare=False)
    """The longest line that is read whole, whatever its verb."""
    mail_parameters: frozenset[str] = field(init=False, repr=False, compare=False)
    """The parameters of MAIL that are honoured, and "BINARYMIME" if that body is."""
    rcpt_parameters: frozenset[str] = field(init=False, repr=False, compare=False)
    """The parameters of RCPT that are honoured."""

    def __post_init__(self) -> None:
        offered = {
            "SIZE": True,
            "BODY": True,
            "SMTPUTF8": self.smtputf8,
            "BINARYMIME": self.chunking and self.binarymime,
            "PRDR": self.prdr and self.protocol is not Protocol.LMTP,
            "AUTH": bool(self.auth),
            "RET": self.dsn,
            "ENVID": self.dsn,
            "REQUIRETLS": self.requiretls,
        }
        room = {
            "SIZE": _SIZE_ROOM,
            "BODY": _BODY_ROOM,
            "SMTPUTF8": _SMTPUTF8_ROOM,
            "AUTH": _AUTH_ROOM,
            "ENVID": wishes.MAIL_ROOM,
            "REQUIRETLS": _REQUIRETLS_ROOM,
        }
        parameters = frozenset(name for name, is_offered in offered.items() if is_offered)
        mail_line = self.command_line + sum(room.get(name, 0) for name in parameters)
        object.__setattr__(self, "mail_parameters", parameters)
        object.__setattr__(self, "mail_line", mail_line)
        rcpt_line = self.command_line + (wishes.RCPT_ROOM if self.dsn else 0)
        object.__setattr__(self, "rcpt_parameters", frozenset({"NOTIFY", "ORCPT"}) if self.dsn else frozenset())
        object.__setattr__(self, "rcpt_line", rcpt_line)
        object.__setattr__(self, "longest_line", max(mail_line, rcpt_line, AUTH_LINE if self.auth else 0))
