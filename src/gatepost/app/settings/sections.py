"""The sections that hold single values: limits, smtp, delivery, trace, spool, log.

One model a section, frozen, closed to unknown keys. A key's type is its unit, its default and description are what
docs/settings.md says.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gatepost.app.settings.proxying import DefaultProxy
from gatepost.app.settings.units import (
    Days,
    Duration,
    Exempt,
    PerTimeText,
    Size,
    Switch,
    Texts,
    Whole,
)

Priority = Literal["high", "normal", "low"]


class Section(BaseModel):
    """Settings as they were when they were loaded: frozen, every key known and checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Limits(Section):
    """What one peer, one session and one message may use. Beyond it the answer is a 4xx or 5xx, never an exception."""

    message_size: Size = Field(
        default=50 * 2**20,
        ge=1024,
        description="A message's largest size; announced by SIZE, refused at MAIL and while it arrives.",
    )  # rfc1870#4
    command_line: Size = Field(
        default=2048,
        ge=512,
        description="A command line's longest, with its line end; AUTH and parameters of MAIL have room beyond it.",
    )  # rfc5321#4.5.3.1.4
    text_line: Size = Field(
        default=8192, ge=1000, description="A content line's longest, with its line end (RFC 5321 asks for 1000)."
    )  # rfc5321#4.5.3.1.6
    header_size: Size = Field(default=256 * 2**10, ge=1024, description="The whole header section of a message.")
    header_count: Whole = Field(default=1000, ge=10, description="Header fields in a message.")
    hops: Whole = Field(
        default=100, ge=1, description="Received fields before a message counts as looping (5.4.6)."
    )  # rfc5321#6.3
    recipients: Whole = Field(
        default=1000, ge=1, description="Recipients in a transaction; beyond it 452."
    )  # rfc5321#4.5.3.1.8
    transactions_per_session: Whole = Field(
        default=1000, ge=1, description="MAIL commands in a session; beyond it 421."
    )
    errors: Whole = Field(default=20, ge=1, description="Commands answered with 5xx in a session; beyond it 421.")
    junk_commands: Whole = Field(
        default=100, ge=1, description="NOOP, VRFY, EXPN, HELP and RSET between two messages; beyond it 421."
    )
    auth_attempts: Whole = Field(default=5, ge=1, description="Failed AUTH commands in a session; beyond it 421.")
    auth_failures: Whole = Field(
        default=20,
        ge=0,
        description="Failed logins of one IPv4 address or IPv6 /64, or of one user name, within `auth_failures_within` "
        "before logins wait, longer with each further failure; with five times as many the address hears 421 at once. "
        "Who has lately logged in from the same address goes by his own failures. 0 counts nothing.",
    )
    auth_failures_within: Duration = Field(
        default=600.0, gt=0, description="The time that failed logins are counted over."
    )
    auth_failures_wait: Duration = Field(
        default=20.0, gt=0, le=60, description="The longest that a login waits for what has failed before it."
    )
    auth_failures_exempt: Exempt = Field(
        default=(),
        description="Networks that many users come from at one address, such as a webmail server's: failed "
        "logins there count for the user names only.",
    )
    sessions: Whole = Field(
        default=10000, ge=1, description="Sessions at a time, all workers together; beyond it 421 at once."
    )
    sessions_per_peer: Whole = Field(
        default=100, ge=1, description="Sessions at a time from one IPv4 address or IPv6 /64; beyond it 421 at once."
    )
    command_timeout: Duration = Field(
        default=300.0,
        gt=0,
        description="How long the next command may take, to the end of its line; a slow line gains nothing.",
    )  # rfc5321#4.5.3.2.7
    data_timeout: Duration = Field(
        default=180.0, gt=0, description="How long the server waits for the next octets of a message."
    )  # rfc5321#4.5.3.2.5
    message_deadline: Duration = Field(default=3600.0, gt=0, description="How long a whole message may take to arrive.")
    reply_timeout: Duration = Field(default=120.0, gt=0, description="How long a client may leave replies unread.")
    tls_timeout: Duration = Field(default=30.0, gt=0, description="How long a TLS handshake may take.")
    proxy_timeout: Duration = Field(
        default=10.0, gt=0, description="How long a load balancer may take to send its PROXY header."
    )
    question_budget: Duration = Field(
        default=30.0, gt=0, description="Time for all plugins together at one question; then 451."
    )
    message_budget: Duration = Field(
        default=100.0, gt=0, description="Time for all plugins together at end-of-data; then 451."
    )


class Smtp(Section):
    """How the SMTP and LMTP listeners speak."""

    bare_newline: Literal["refuse", "normalise"] = Field(
        default="refuse", description="What is done with a CR or LF alone in a message; it is never passed on as it is."
    )
    recipients_disagree: Literal["one-policy", "hold-others", "strictest"] = Field(
        default="one-policy",
        description="What happens when plugins decide differently for a message's recipients and the client can't be "
        "told so: recipients under another policy hear 452 and come again, or the refused ones are held, or all share "
        "the gravest verdict. Of an authenticated user, whose program wouldn't come again, they share it in the first "
        "case too.",
    )
    verbatim: Switch = Field(
        default=False, description="Leave plugins' reply texts as they are: not cut to 510 octets, no token appended."
    )
    chunking: Switch = Field(default=True, description="Offer CHUNKING (BDAT).")  # rfc3030
    dsn: Switch = Field(
        default=True, description="Offer DSN: senders say which notices they want (RET, ENVID, NOTIFY, ORCPT)."
    )  # rfc3461
    pipelining: Switch = Field(default=True, description="Offer PIPELINING.")  # rfc2920
    prdr: Switch = Field(default=True, description="Offer PRDR, a reply for each recipient at end-of-data.")
    requiretls: Switch = Field(
        default=False,
        description="Offer REQUIRETLS over TLS: a message so marked goes on only to servers that prove who they are.",
    )  # rfc8689
    smtputf8: Switch = Field(default=True, description="Offer SMTPUTF8, addresses beyond ASCII.")  # rfc6531


class Destination(Section):
    """What is different for some destinations; what isn't said here is as in `[delivery]`."""

    match: Texts = Field(
        description='Patterns of domains that mail goes to by MX, or of next servers: "example.org", "*.example.org", '
        '"mx1.example.org", "10.0.0.5". The first table that fits decides.'
    )
    concurrency: Whole | None = Field(default=None, ge=1, description="Connections at a time, for each worker.")
    rate: PerTimeText | None = Field(
        default=None, description='Messages in a time, for each worker and server, evenly spread: "100/min".'
    )
    messages_per_connection: Whole | None = Field(
        default=None, ge=0, description="Messages that a connection carries before it is closed; 0: no bound."
    )
    reuse: Duration | None = Field(default=None, description="How long an idle connection is kept.")
    expire: Duration | None = Field(
        default=None, gt=0, description="How long delivery is tried, for mail to these domains however it goes."
    )
    priority: Priority = Field(
        default="normal",
        description="How soon their mail has its turn while other mail waits too: high gets four times as many places "
        "as normal, low half as many.",
    )


class SenderPriority(Section):
    """How soon some senders' mail has its turn."""

    match: Texts = Field(
        description='Patterns of users who have authenticated, and of the sender\'s domain for others: "news@*", '
        '"example.org".'
    )
    priority: Priority = Field(description="high, normal or low, as for destinations.")


class Delivery(Section):
    """How accepted mail leaves the spool."""

    first: Duration = Field(
        default=300.0, gt=0, description="The wait before the second attempt; each further one doubles."
    )
    max: Duration = Field(default=4 * 3600.0, gt=0, description="The longest wait between attempts.")
    expire: Duration = Field(
        default=5 * 86400.0, gt=0, description="How long delivery is tried before it counts as failed."
    )  # rfc5321#4.5.4.1
    concurrency: Whole = Field(
        default=20,
        ge=1,
        description="The most connections at a time to one destination, for each worker; it begins with five, and has "
        "more as messages get through.",
    )
    rate: PerTimeText | None = Field(
        default=None, description='Messages to one server in a time, for each worker: "100/min"; without it no bound.'
    )
    messages_per_connection: Whole = Field(
        default=0, ge=0, description="Messages that a connection carries before it is closed; 0: no bound."
    )
    rest: Duration = Field(
        default=60.0,
        gt=0,
        description="How long a server that can't be reached is left alone, by all messages; doubled while that goes "
        "on.",
    )
    rest_max: Duration = Field(default=3600.0, gt=0, description="The longest that a server is left alone.")
    reuse: Duration = Field(
        default=10.0, description="How long an idle connection is kept for the next message; 0 closes it."
    )
    proxy: DefaultProxy | None = Field(
        default=None,
        description="The proxy that the servers of relay and mx routes are reached through, such as "
        '"socks5://user:password@192.0.2.1:1080" or "http://192.0.2.1:3128"; a route may name another.',
    )
    warn: Duration = Field(
        default=4 * 3600.0,
        ge=0,
        description="After how long a sender of ours is told that a message is late, once; 0 tells nobody.",
    )
    returned: Size = Field(
        default=64 * 2**10,
        ge=1024,
        description="How much of a message a report brings back at most; what is longer comes back as its headers.",
    )
    connect_timeout: Duration = Field(default=30.0, gt=0, description="How long connecting may take.")
    greeting_timeout: Duration = Field(
        default=300.0, gt=0, description="How long the peer's greeting may take."
    )  # rfc5321#4.5.3.2.1
    command_timeout: Duration = Field(
        default=300.0, gt=0, description="How long the answer to EHLO, MAIL, RCPT and the like may take."
    )  # rfc5321#4.5.3.2.2
    data_timeout: Duration = Field(
        default=120.0, gt=0, description="How long the answer to DATA may take."
    )  # rfc5321#4.5.3.2.4
    block_timeout: Duration = Field(
        default=180.0, gt=0, description="How long the peer may take to read one block."
    )  # rfc5321#4.5.3.2.5
    end_timeout: Duration = Field(
        default=600.0, gt=0, description="How long the answer to end-of-data may take."
    )  # rfc5321#4.5.3.2.6
    destination: tuple[Destination, ...] = Field(
        default=(), description="One table for destinations that are to be treated differently."
    )
    sender: tuple[SenderPriority, ...] = Field(
        default=(), description="One table for senders whose mail is to come sooner, or later."
    )


class Trace(Section):
    """The record of every decision, which `gatepost explain` reads. It never holds content or secrets."""

    days: Days = Field(default=14, ge=0, description="How long decisions are kept; 0 keeps none.")
    size: Size = Field(
        default=1024 * 2**20, ge=2**20, description="The most disk all segments together may use; the oldest go first."
    )


class Spool(Section):
    """Where accepted mail rests until it is delivered."""

    keep_free: Size = Field(
        default=100 * 2**20, ge=0, description="With less free space in the data folder new mail is refused with 452."
    )


class Log(Section):
    """What the server says about itself, on standard error."""

    format: Literal["auto", "json", "logfmt", "pretty"] = Field(
        default="auto", description="The shape of a log line; auto is pretty on a terminal and logfmt elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least grave line that is written."
    )
