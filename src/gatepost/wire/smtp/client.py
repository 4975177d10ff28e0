"""The client's side of SMTP and LMTP: one connection, many messages, no input or output of its own.

Strategy: commands wait in a queue and go out as far as the server may have them at once: all of a transaction's
envelope with PIPELINING, else one at a time. What the server says decides outcomes, one per recipient; a transaction
ends with exactly one `Outcomes`, and after it the machine is idle or closed. A transaction that came to nothing is
forgotten with RSET before the next. Asked by PRDR, a server may answer the content for each recipient: a refusal is
that one's outcome, the last reply is the outcome of all others. Whoever asks to (`Asks`) is shown each command and each
reply beforehand, and says by `go()` what is to become of it (`client_steps`); a recipient given up after the server has
taken it costs a RSET too.

The caller moves the octets: `receive()` what came, `next_event()` until NEED_DATA, write `data_to_send()`.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from gatepost.model import Recipient, Reply
from gatepost.wire.smtp.client_content import DotStuffing
from gatepost.wire.smtp.client_events import (
    LEFT_OUT,
    NO_QUESTIONS,
    Asks,
    Closed,
    ContentWanted,
    DataAnswered,
    Outcomes,
    Phase,
    Protocol,
    RecipientAnswered,
    SenderAnswered,
    State,
    Transaction,
)
from gatepost.wire.smtp.client_session import Session
from gatepost.wire.smtp.client_steps import Effect
from gatepost.wire.smtp.client_transaction import Asked, Command, OpenTransaction, mail_command

MAX_PIPELINED = 100  # commands under way at once, so that neither side's buffers fill up; rfc2920#3.1


class Client(Session):
    """One connection's client machine. Every transaction ends with one Outcomes that holds each recipient once."""

    def __init__(self, helo: str, *, protocol: Protocol = Protocol.SMTP, asks: Asks = NO_QUESTIONS) -> None:
        """`helo` is the name said in EHLO; `asks` is what the machine stands still for: each CommandDue and ReplyHeard
        is to be answered by `go()`. Raises ValueError for a name that doesn't fit into one line.
        """
        super().__init__(helo, protocol=protocol, asks=asks)
        self._queue: deque[Command] = deque()
        self._transaction: OpenTransaction | None = None
        self._must_reset = False
        self._must_quit = False
        self.transactions = 0
        """Transactions begun on this connection."""

    @property
    def can_reuse(self) -> bool:
        """Whether another transaction may begin on this connection: the server has said nothing on its own, and MAILMAX
        isn't reached.
        """
        limit = self.capabilities.transactions_max
        return self.is_idle and not self._reader.has_input and (limit is None or self.transactions < limit)

    @property
    def wants_content(self) -> bool:
        """Whether content may be fed now. It ends early when the server has refused a chunk or hung up."""
        return self._state is State.CONTENT and self._question is None

    def mail_line(self, transaction: Transaction) -> str:
        """The MAIL command that `send` would say, without CRLF."""
        return mail_command(transaction, self.capabilities, self.protocol)

    def send(self, transaction: Transaction, mail_line: str | None = None) -> None:
        """Begin a transaction. Raises ValueError for an envelope that can't be written as command lines, or is empty.

        What the server's capabilities exclude is settled at once: too large (5.3.4), SMTPUTF8 needed (5.6.7),
        BINARYMIME needed (5.6.3), REQUIRETLS needed (5.7.30). 8-bit content goes as it is to a server without 8BITMIME,
        without saying so: whoever minds converts it before. `mail_line` is said instead of the MAIL command that would
        be made. A probe ends without content; it is taken back with RSET when something follows it.
        Where the server has spoken without being asked, nothing is sent: the session ends, and so does the transaction.
        More recipients than RCPTMAX are a ValueError: the caller divides them.
        """
        self._check("send")
        if not transaction.recipients:
            raise ValueError("a transaction without recipients")
        limit = self.capabilities.recipients_max
        if limit is not None and len(transaction.recipients) > limit:
            raise ValueError(f"the server takes at most {limit} recipients at once")
        opened = OpenTransaction(  # raises before anything has changed
            transaction,
            self.capabilities,
            protocol=self.protocol,
            mail_line=mail_line,
            prefers_data=Asked.DATA in self._shown,
        )
        self.transactions += 1
        self._transaction = opened
        self._state = State.TRANSACTION
        if self._hears_too_early():
            return
        if opened.lines:
            if self._must_reset:
                self._queue.append(_RESET)
                self._must_reset = False
            self._queue.extend(opened.lines)
        self._go_on()

    def send_content(self, chunk: bytes) -> None:
        """The next octets of the content, CRLF line ends, cut anywhere; only while `wants_content` (RuntimeError).

        Raises StrayLineEnd (a ValueError) for a bare CR or LF: nothing of the chunk is sent, and the connection must be
        dropped, since there is no other way to take back what went before.
        """
        self._check("send_content")
        content = self._current.content
        if isinstance(content, DotStuffing):
            self._out.append(content.stuff(chunk))
        elif (block := content.put(chunk)) is not None:
            self._out.append(block)
            self._waiting.append(_BDAT)

    def end_content(self) -> None:
        """The content is complete; the server's word on it follows. Raises as `send_content` does."""
        self._check("end_content")
        opened = self._current
        self._out.append(opened.content.end())
        self._state = State.END_OF_DATA
        if self.protocol is Protocol.LMTP:  # rfc2033#4.2: one reply for each recipient accepted
            self._waiting.extend((b"", Asked.END, at) for at in opened.accepted)
        else:
            self._waiting.append(_END)

    # Replies.

    def _answer(self, reply: Reply, heard: Command) -> None:
        _, asked, at = heard
        match asked:
            case Asked.RESET:
                if not reply.is_positive:
                    self._break(f"a reply {reply.code} to RSET")
                elif self._transaction is None:
                    super()._go_on_introducing()
            case Asked.SENDER:
                self._events.append(SenderAnswered(reply))
                self._current.answer_sender(reply, heard[0])
                if not reply.is_positive:
                    self._queue.clear()
            case Asked.RECIPIENT:
                self._events.append(RecipientAnswered(self._current.recipient(at), reply))
                self._current.answer_recipient(at, reply)
            case Asked.DATA:
                self._hear_data(reply)
            case Asked.CHUNK:
                if not reply.is_positive:
                    self._stop_content(reply)
            case Asked.END:
                self._hear_end(reply, at)
            case Asked.NOTHING | Asked.EXTRA:
                pass
            case Asked.GREETING | Asked.HELLO | Asked.STARTTLS | Asked.AUTH | Asked.INTRODUCTION | Asked.QUIT:
                super()._answer(reply, heard)
            case _:
                assert_never(asked)

    def _hear_data(self, reply: Reply) -> None:
        opened = self._current
        self._events.append(DataAnswered(reply))
        if not reply.is_positive:
            opened.settle(reply, Phase.DATA)
        elif reply.code != 354:
            self._break(f"a reply {reply.code} to DATA", Phase.DATA)
        elif not opened.accepted:  # rfc2920#3.1: content for nobody
            self._send_due((b".\r\n", Asked.NOTHING, -1))
        elif not opened.has_sender:  # somebody would get an empty message
            self._break("a refused sender, and 354 all the same")
        else:
            self._state = State.CONTENT
            self._events.append(ContentWanted())

    def _hear_end(self, reply: Reply, at: int) -> None:
        opened = self._current
        if reply.code == 353:
            self._waiting.extend((b"", Asked.END, at) for at in opened.begin_each())
            self._waiting.append(_END)
        elif at < 0:
            opened.settle(reply, Phase.END_OF_DATA)
        elif not reply.is_positive or self.protocol is Protocol.LMTP:  # else the last reply decides
            opened.settle_one(at, reply, Phase.END_OF_DATA)

    def _begins_each(self, reply: Reply, asked: Asked) -> bool:
        if reply.code != 353 or asked is not Asked.END or self.protocol is Protocol.LMTP:
            return False
        return self._current.awaits_each

    def _hear_unasked(self, reply: Reply) -> None:
        if self._state is State.CONTENT and not reply.is_positive:
            self._close(reply, reply)  # refused while it was sent; there is no way to end the content but hanging up
        else:
            super()._hear_unasked(reply)

    def _stop_content(self, reply: Reply, *, is_ours: bool = False) -> None:
        """A chunk was refused: what is under way is waited for, nothing more is sent."""
        self._current.settle(reply, Phase.CONTENT, is_ours=is_ours)
        if self._state is State.END_OF_DATA and self.protocol is Protocol.LMTP:
            self._close(reply, reply)  # how many replies follow the last chunk isn't said anywhere
            return
        self._must_reset = True
        if self._state is State.CONTENT:
            self._state = State.TRANSACTION

    def _go_on_introducing(self) -> None:
        if self._must_reset:  # nobody is introduced in the middle of a transaction, says XFORWARD_README
            self._must_reset = False
            self._issue(_RESET)
        else:
            super()._go_on_introducing()

    # Steps.

    def _send_due(self, due: Command) -> None:
        if due[1] is Asked.CHUNK:
            self._want_content()
        else:
            super()._send_due(due)

    def _pass_over(self, due: Command) -> None:
        if due[1] is not Asked.RESET:
            super()._pass_over(due)
        elif self._transaction is None:
            super()._go_on_introducing()

    def _refuse(self, reply: Reply, due: Command) -> None:
        if self._transaction is None:
            super()._refuse(reply, due)
        elif due[1] is Asked.RECIPIENT:
            self._transaction.settle_one(due[2], reply, Phase.RECIPIENT, is_ours=True)
        else:
            self._must_reset |= due[1] is Asked.RESET
            self._end_message(reply, due[1].phase)

    def _leave_rest_out(self, due: Command) -> None:
        opened = self._current
        if not self._may_have_takers(opened):
            self._send_due(due)
            return
        while True:
            opened.settle_one(due[2], LEFT_OUT, Phase.RECIPIENT, is_ours=True)
            if not self._queue or self._queue[0][1] is not Asked.RECIPIENT:
                return
            due = self._queue.popleft()

    def _may_have_takers(self, opened: OpenTransaction) -> bool:
        """Whether a recipient is taken, or told and not answered yet."""
        return bool(opened.accepted) or any(waiting[1] is Asked.RECIPIENT for waiting in self._waiting)

    def _end_message(self, reply: Reply, phase: Phase) -> None:
        if self._transaction is None:  # of the message before; what was begun behind it goes on
            super()._go_on_introducing()
            return
        self._queue.clear()
        self._current.settle(reply, Phase.SENDER if phase is Phase.RESET else phase, is_ours=True)

    def _end_session(self, reply: Reply, phase: Phase) -> None:
        if self._transaction is None:
            super()._end_session(reply, phase)
        else:
            self._must_quit = True
            self._end_message(reply, phase)

    def _overrule(self, given: Reply, reply: Reply, heard: Command) -> None:
        opened = self._transaction
        if opened is None:
            super()._overrule(given, reply, heard)
            return
        if self._breaks_off(reply, heard):
            return
        asked, at = heard[1], heard[2]
        match asked:
            case Asked.RECIPIENT:
                self._note_unheeded(reply, heard)
                opened.settle_one(at, given, Phase.RECIPIENT, is_ours=True)
            case Asked.CHUNK if self._state is State.CONTENT:
                self._stop_content(given, is_ours=True)
            case Asked.END if not reply.is_positive:
                if at < 0:
                    opened.settle(given, Phase.END_OF_DATA, is_ours=True)
                else:
                    opened.settle_one(at, given, Phase.END_OF_DATA, is_ours=True)
            case Asked.CHUNK | Asked.END:
                self._answer(reply, heard)
            case Asked.DATA if reply.is_positive:
                self._drop(given, Phase.DATA)
            case _:
                self._note_unheeded(reply, heard)
                self._must_reset |= asked is Asked.RESET
                self._end_message(given, asked.phase)
        self._go_on()

    def _end_after(self, what: Effect, given: Reply, reply: Reply, heard: Command) -> None:
        opened = self._transaction
        if opened is None:
            super()._end_after(what, given, reply, heard)
            return
        if self._breaks_off(reply, heard):
            return
        asked = heard[1]
        if what is Effect.FINISH:
            self._must_quit = True
        if asked is Asked.END or (asked is Asked.CHUNK and self._state is State.END_OF_DATA):
            self._answer(reply, heard)
        elif asked is Asked.CHUNK or (asked is Asked.DATA and reply.is_positive):
            self._drop(given, asked.phase)
        else:
            self._answer(reply, heard)
            if self._transaction is not None:
                if what is Effect.REST_LEFT_OUT:
                    if self._queue and self._queue[0][1] is Asked.RECIPIENT and self._may_have_takers(self._current):
                        self._leave_rest_out(self._queue.popleft())
                else:
                    self._end_message(given, asked.phase)
        self._go_on()

    def _drop(self, outcome: Reply, phase: Phase) -> None:
        """The server awaits content that it won't get: there is no way to take that back but hanging up."""
        self._shut(outcome, phase, is_ours=True)
        self._events.append(Closed(None))

    def _recipient(self, at: int) -> Recipient | None:
        return None if at < 0 or self._transaction is None else self._transaction.recipient(at)

    def _is_moot(self, due: Command) -> bool:
        opened = self._transaction
        if opened is None:
            return False
        if due[1] is Asked.RECIPIENT:
            return opened.has_outcome(due[2])
        if due[1] in (Asked.DATA, Asked.CHUNK):
            return opened.is_settled or not opened.has_takers
        return opened.is_settled

    def _note_unheeded(self, reply: Reply, heard: Command) -> None:
        opened = self._transaction
        if opened is not None:
            if heard[1] is Asked.SENDER:
                opened.sender_reply = reply
            elif heard[1] is Asked.RECIPIENT and reply.is_positive:
                opened.mark_taken(heard[2])

    def _taint(self) -> None:
        if self._transaction is not None:
            self._transaction.is_tainted = True

    # What follows.

    def _go_on(self) -> None:
        """Send what may be sent; end a transaction that is through."""
        opened = self._transaction
        if opened is None or self._question is not None or self._is_barred:
            return
        queue = self._queue
        room = MAX_PIPELINED if self._may_pipeline and "PIPELINING" in self.capabilities.keywords else 1
        while queue and len(self._waiting) < room:
            if queue[0][1] is Asked.DATA:
                if self._asks_replies and self._waiting:
                    break
                if not opened.has_takers and (opened.waits_for_all or not self._waiting or opened.is_settled):
                    if not self._waiting:
                        queue.clear()
                    break
                if opened.has_stowaways:
                    self._restart(opened)
                    continue
            self._issue(queue.popleft())
            if self._question is not None:
                return
        if not self._waiting and self._state in (State.TRANSACTION, State.END_OF_DATA):
            if opened.has_takers and not opened.is_settled and not opened.uses_data:
                self._begin_chunks(opened)
            else:
                self._finish(opened)

    def _restart(self, opened: OpenTransaction) -> None:
        """The server holds somebody who shall not have the message: the envelope is told anew."""
        self._queue.clear()
        if lines := opened.restart():
            self._queue.append(_RESET)
            self._queue.extend(lines)

    def _begin_chunks(self, opened: OpenTransaction) -> None:
        if opened.has_stowaways:
            self._restart(opened)
            self._go_on()
        elif Asked.CHUNK in self._shown:
            self._issue(_BDAT)
        else:
            self._want_content()

    def _want_content(self) -> None:
        self._state = State.CONTENT
        self._events.append(ContentWanted())

    def _finish(self, opened: OpenTransaction) -> None:
        if opened.is_tainted or (self._state is State.TRANSACTION and opened.sender_reply is not None):
            self._must_reset = True
        self._state = State.IDLE
        self._transaction = None
        self._events.append(Outcomes(opened.outcomes))
        if self._must_quit:
            self._state = State.QUIT
            self._issue(_QUIT)

    @property
    def _current(self) -> OpenTransaction:
        assert self._transaction is not None
        return self._transaction

    def _lose_message(self, outcome: Reply, phase: Phase, *, is_ours: bool) -> None:
        self._queue.clear()
        opened, self._transaction = self._transaction, None
        if opened is not None:
            opened.settle(outcome, phase, is_ours=is_ours)
            self._events.append(Outcomes(opened.outcomes))


_RESET: Command = (b"RSET\r\n", Asked.RESET, -1)
_BDAT: Command = (b"BDAT\r\n", Asked.CHUNK, -1)
_END: Command = (b"", Asked.END, -1)
_QUIT: Command = (b"QUIT\r\n", Asked.QUIT, -1)
