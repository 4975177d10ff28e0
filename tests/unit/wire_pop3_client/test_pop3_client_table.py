"""The client machine's two tables, walked: every call in every state, and every answer to every command."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatepost.wire.pop3.client import Client
from gatepost.wire.pop3.client_events import NEED_DATA, Answered
from gatepost.wire.pop3.client_states import AFTER, CONTENTS, LEGAL, LISTINGS, Ask, State

CALLS: dict[Ask, Callable[[Client], None]] = {
    Ask.CAPA: Client.capa,
    Ask.STLS: Client.start_tls,
    Ask.HANDSHAKE: Client.tls_started,
    Ask.USER: lambda client: client.user("ann"),
    Ask.PASS: lambda client: client.password("secret"),
    Ask.APOP: lambda client: client.apop("ann", "secret"),
    Ask.AUTH: lambda client: client.auth("PLAIN", b"\0ann\0secret"),
    Ask.RESPONSE: lambda client: client.respond(b"x"),
    Ask.STAT: Client.stat,
    Ask.LIST: Client.sizes,
    Ask.UIDL: Client.names,
    Ask.TOP: lambda client: client.top(1),
    Ask.RETR: lambda client: client.retrieve(1),
    Ask.DELE: lambda client: client.delete(1),
    Ask.RSET: Client.reset,
    Ask.NOOP: Client.noop,
    Ask.QUIT: Client.quit,
}


def heard(client: Client, data: bytes) -> list[object]:
    client.receive(data)
    events: list[object] = []
    while (event := client.next_event()) is not NEED_DATA:
        events.append(event)
    return events


def brought_to(state: State) -> Client:
    client = Client()
    if state is State.GREETING:
        return client
    heard(client, b"+OK <1.2@pop.example>\r\n")
    match state:
        case State.NAMED:
            client.user("ann")
            heard(client, b"+OK\r\n")
        case State.SASL:
            client.auth("LOGIN")
            heard(client, b"+ \r\n")
        case State.HANDSHAKE:
            client.start_tls()
            heard(client, b"+OK\r\n")
        case State.TRANSACTION | State.QUITTING:
            client.apop("ann", "secret")
            heard(client, b"+OK\r\n")
            if state is State.QUITTING:
                client.quit()
        case State.CLOSED:
            heard(client, b"")
        case _:
            pass
    client.data_to_send()
    assert client.state is state
    return client


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("ask", CALLS)
def test_the_client_says_what_the_table_allows(state: State, ask: Ask) -> None:
    client = brought_to(state)
    if ask in LEGAL[state]:
        CALLS[ask](client)
        said = client.data_to_send()
        assert said.startswith(ask.value.encode()) or ask in (Ask.HANDSHAKE, Ask.RESPONSE)
        assert ask is Ask.HANDSHAKE or said.endswith(b"\r\n")
    else:
        with pytest.raises(RuntimeError, match="isn't possible now"):
            CALLS[ask](client)
        assert client.state is state and not client.data_to_send()


def test_the_table_names_every_call() -> None:
    assert set(LEGAL) == set(State)
    assert frozenset().union(*LEGAL.values()) == set(CALLS) == set(Ask) - {Ask.GREETING}


@pytest.mark.parametrize("is_positive", [True, False])
@pytest.mark.parametrize("ask", [Ask.GREETING, *(ask for ask in CALLS if ask not in (Ask.HANDSHAKE, Ask.RESPONSE))])
def test_an_answer_leads_where_the_table_says(ask: Ask, is_positive: bool) -> None:
    before = next((state for state in State if ask in LEGAL[state]), State.GREETING)
    client = brought_to(before)
    if ask is not Ask.GREETING:
        CALLS[ask](client)
    [first, *rest] = heard(client, b"+OK\r\n" if is_positive else b"-ERR no\r\n")
    assert isinstance(first, Answered) and first.ask is ask and first.reply.is_positive is is_positive
    assert client.state is AFTER.get((ask, is_positive), before)
    assert not rest
    assert client.is_waiting is (is_positive and ask in LISTINGS | CONTENTS)


@pytest.mark.parametrize("ask", [Ask.CAPA, Ask.USER, Ask.STLS, Ask.AUTH])
def test_before_the_login_one_thing_at_a_time(ask: Ask) -> None:
    client = brought_to(State.AUTHORIZATION)
    client.capa()
    with pytest.raises(RuntimeError, match="CAPA being answered"):
        CALLS[ask](client)


@pytest.mark.parametrize("text", ["a\r\nDELE 1", "a\nb", "a\0b"])
def test_what_is_said_is_one_line(text: str) -> None:
    client = brought_to(State.AUTHORIZATION)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        client.user(text)
    client.user("ann")
    heard(client, b"+OK\r\n")
    client.data_to_send()
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        client.password(text)
    assert not client.data_to_send()


@pytest.mark.parametrize(
    "greeting", ["+OK hi", "+OK <a@b> <c@d>", "+OK <ab>", "+OK <a@b@c>", "+OK <a b@c>", "+OK <\xfc@b>", "+OK <x <a@b>"]
)
def test_no_apop_without_a_timestamp_that_is_one(greeting: str) -> None:
    client = Client()
    heard(client, greeting.encode() + b"\r\n")
    assert client.timestamp == ""
    with pytest.raises(RuntimeError, match="no timestamp"):
        client.apop("ann", "secret")
