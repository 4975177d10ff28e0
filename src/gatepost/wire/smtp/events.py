"""What the server machine says to whoever drives it: questions that stand still until answered, and facts that don't.

Strategy: one frozen class per thing that can happen, two closed unions. A *question* is answered with exactly one call
on the session (its docstring says which); until then the machine gives no other event. What is *told* needs no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gatepost.model import Body, Path, Reply, fact
from gatepost.wire.smtp.states import Verb


@dataclass(frozen=True, slots=True)
class Connect:
    """The connection is there and nothing was said yet. `answer`: 220 greets, 421 closes, any other refusal is said and
    then 503 to all but QUIT."""


@dataclass(frozen=True, slots=True)
class Line:
    """A command line as received, without its line end, before it is parsed; only with `Profile.ask_lines`.

    `proceed` lets it be parsed, `answer` says a reply in its place and moves no state, `converse` says a reply and
    hands over what follows.
    """

    line: bytes


@dataclass(frozen=True, slots=True)
class Replying:
    """A reply about to leave; only with `Profile.ask_replies`. `answer` gives the reply that leaves.

    The state has moved already by the reply given here; of a 3xx and of the 220 that starts TLS only the text can
    change, everything else may become a 421, which closes.
    """

    reply: Reply


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO, HELO or LHLO. `answer` or `answer_hello`: 2xx ends a transaction and sets the state."""

    name: str
    verb: Verb


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS. `answer`: 220 waits for `tls_started`, once the output is flushed and the handshake is through."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH with a mechanism that is offered. `answer` ends the exchange (235 succeeds), `challenge` goes on with it.

    `initial` is the decoded initial response: None if there was none, b"" for `=`.
    """

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The decoded response to a challenge. Answered like `Auth`."""

    data: bytes


@fact
class Mail:
    """MAIL. `answer`: 2xx begins the transaction.

    `parameters` holds every parameter as given, keyword upper-case, "" where it had no value; `size` is octets.
    """

    path: Path
    parameters: Mapping[str, str]
    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    prdr: bool = False


@fact
class Rcpt:
    """RCPT. `answer`: 2xx adds the recipient, anything else changes nothing. `parameters` as those of `Mail`."""

    path: Path
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Data:
    """DATA, or the first BDAT once its octets are read (its Chunks come before this). `answer`: any positive reply goes
    on (354 is said at DATA, nothing at BDAT), any other ends the transaction."""

    is_chunk: bool = False


@fact
class EndOfData:
    """The content is over. `answer`, or `answer_each` under LMTP and PRDR; the transaction ends either way.

    `size` is in octets. `failure` is what the machine refuses by itself (too big, bare newline, line too long): no
    positive answer prevails against it. Then the Chunks given before are only a part.
    """

    size: int
    failure: Reply | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """RSET. `answer`: only the text counts."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP. `answer`."""


@dataclass(frozen=True, slots=True)
class Verify:
    """VRFY. `answer`: 252 where nothing shall be told."""

    argument: str


@dataclass(frozen=True, slots=True)
class Expand:
    """EXPN. `answer`."""

    argument: str


@dataclass(frozen=True, slots=True)
class Help:
    """HELP. `answer`."""

    argument: str


@dataclass(frozen=True, slots=True)
class Client:
    """XCLIENT: the peer speaks for this client. `answer`: 2xx begins the session anew with Connect, whose answer is the
    reply; anything else is said and changes nothing.

    `attributes` by upper-case name are decoded and looked over (`naming`), "" where the peer doesn't know.
    """

    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """XFORWARD: what follows is of this client, which changes nothing but the record. `answer`. As `Client`."""

    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT. `answer`: only the text counts; the session closes."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A verb nobody knows. `answer`: 500."""

    verb: str
    argument: str


@dataclass(frozen=True, slots=True)
class Blob:
    """Raw octets for the plugin that asked for them by `converse`: one line with its line end, or what had arrived.

    `converse` goes on with new limits, `proceed` with those that are left (`last`: none are), `answer` says a reply and
    goes back to commands, `finish_blob` does so without a word.
    """

    data: bytes
    last: bool


@fact
class Chunk:
    """Content octets, dots unstuffed; never empty, never more than what was received at once. Told."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The machine has refused this command line by itself, with this reply. Told. Credentials are cut off the line."""

    line: bytes
    reply: Reply


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing comes any more; told once. `clean`: the client said QUIT."""

    clean: bool


class NeedData(Enum):
    """Not an event: flush `data_to_send`, then `receive` more (or start TLS, or close)."""

    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA

Question = (
    Connect
    | Line
    | Replying
    | Hello
    | StartTls
    | Auth
    | AuthResponse
    | Mail
    | Rcpt
    | Data
    | EndOfData
    | Reset
    | Noop
    | Verify
    | Expand
    | Help
    | Client
    | Forwarded
    | Quit
    | Unknown
    | Blob
)
Told = Chunk | Refused | Ended
Event = Question | Told
