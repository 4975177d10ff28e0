"""Five event sinks in Python, as their authors would write them for IIS.

gatepost binding add 1 OnInboundCommand shield    event_sinks.py:Shield    "EHLO"
gatepost binding add 1 OnInboundCommand denied    event_sinks.py:Denied    "RCPT"
gatepost binding add 1 OnInboundCommand vacation  event_sinks.py:Vacation  "EHLO; XVACATION" 24600
gatepost binding add 1 OnInboundCommand greylist  event_sinks.py:Greylist  "RCPT"
gatepost binding add 1 OnArrival        renamed   event_sinks.py:Renamed   "rcpt to=*@old.example"
gatepost binding setprop 1 OnInboundCommand shield Sink names "example.org mx.example.org"
…
"""

from __future__ import annotations

import time

from gatepost.plugins.sink import (
    EXPE_BLOB_DONE,
    EXPE_BLOB_READY,
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_S_CONSUMED,
    EXPE_TRANSIENT_FAILURE,
    IMMPID_MP,
    IMMPID_RP,
    S_FALSE,
    S_OK,
)

KEPT: dict[str, bytes] = {}  # what XVACATION was told
SEEN: dict[tuple[str, str, str], float] = {}  # when the greylister saw them first


def address_in(command):
    """The address of MAIL FROM:<…> or RCPT TO:<…>, lower-case."""
    return command.partition("<")[2].partition(">")[0].lower()


class WithNames:
    """What a sink has that is told names by its sink property `names`, with blanks between them."""

    names = frozenset()

    def Load(self, bag):
        self.names = frozenset(str(bag.get("names", "")).lower().split())

    def IsCacheable(self):
        return S_OK


class Shield(WithNames):
    """Drops whoever says EHLO with one of our own names."""

    def OnSmtpInCommand(self, server, session, message, context):
        name = context.QueryCommand().partition(" ")[2].strip().lower()
        if name not in self.names and name != server.GetStringA(1):  # 1: the virtual server's own domain
            return S_OK
        context.SetResponse("That is my name")
        context.SetCommandStatus(EXPE_DROP_SESSION)
        return EXPE_S_CONSUMED


class Denied(WithNames):
    """Refuses the recipients named, and leaves the others to whoever comes next."""

    def OnSmtpInCommand(self, server, session, message, context):
        address = address_in(context.QueryCommand())
        if address not in self.names:
            return S_OK
        context.SetResponse(f"550 5.7.1 <{address}> takes no mail from outside\r\n")
        context.SetSmtpStatusCode(550)
        context.SetCommandStatus(EXPE_COMPLETE_FAILURE)
        context.SetProtocolErrorFlag(False)
        return S_FALSE


class Vacation:
    """A capability of our own, and its verb, which takes a text of several lines that ends with a dot.

    It answers EHLO after the house, whose lines it adds to, and needs XVACATION before it: so it is bound twice.
    """

    def OnSmtpInCommand(self, server, session, message, context):
        if context.QueryCommandKeyword().upper() == "EHLO":
            context.AppendNativeResponse("250 XVACATION\r\n")
            return S_OK
        if context.QueryCommandKeyword().upper() != "XVACATION":
            return S_OK
        context.SetResponse("354 your text; a dot on its own line ends it\r\n")
        context.SetCommandStatus(EXPE_BLOB_READY)
        context.SetCallback(VacationText(context.QueryCommand().partition(" ")[2].strip()))
        return S_FALSE


class VacationText:
    """Takes the lines after XVACATION."""

    def __init__(self, who):
        self.who = who
        self.lines = []

    def OnSmtpInCallback(self, server, session, message, context):
        line = context.QueryBlob()
        if line.rstrip(b"\r\n") != b".":
            self.lines.append(line)
            context.SetCommandStatus(EXPE_BLOB_READY)  # no response: the next line
            return S_OK
        KEPT[self.who] = b"".join(self.lines)
        context.SetResponse(f"250 2.0.0 {len(self.lines)} lines kept for {self.who}\r\n")
        context.SetCommandStatus(EXPE_BLOB_DONE)
        return S_OK


class Greylist:
    """Defers whom it hasn't seen: sink properties `delay` (seconds, 300) and `answer`."""

    def IsCacheable(self):
        return S_OK

    def Load(self, bag):
        self.delay = float(bag.get("delay", 300))
        self.answer = bag.get("answer", "come again in a few minutes")

    def OnSmtpInCommand(self, server, session, message, context):
        if IMMPID_MP.SENDER_ADDRESS_SMTP not in message:  # RCPT before MAIL: the server knows what to say
            return S_OK
        client = message.GetStringA(IMMPID_MP.CONNECTION_IP_ADDRESS)
        sender = message.GetStringA(IMMPID_MP.SENDER_ADDRESS_SMTP)
        first = SEEN.setdefault((client, sender, address_in(context.QueryCommand())), time.time())
        if time.time() - first >= self.delay:
            return S_OK
        context.SetResponse(f"451 4.7.1 {self.answer}\r\n")
        context.SetCommandStatus(EXPE_TRANSIENT_FAILURE)
        return S_FALSE


class Renamed:
    """Mail to old.example goes to example.org, with a line about it at the top of its text."""

    NOTE = b"(You still have our old address. Please change it.)\r\n\r\n"

    def OnMessageSubmission(self, message, notify, context):
        recipients = message.QueryInterface("IMailMsgRecipients")
        renamed = recipients.AllocNewList()
        for index in range(recipients.Count()):
            local, _, domain = recipients.Item(index, IMMPID_RP.ADDRESS_SMTP).rpartition("@")
            address = f"{local}@{'example.org' if domain.lower() == 'old.example' else domain}"
            renamed.AddPrimary([address], [IMMPID_RP.ADDRESS_SMTP], recipients, index)
        recipients.WriteList(renamed)
        content = message.ReadContent(0, message.GetContentSize())
        head, blank, body = content.partition(b"\r\n\r\n")
        if blank and b"\ncontent-type: multipart" not in head.lower():
            message.WriteContent(len(head) + len(blank), self.NOTE + body)
        return S_OK
