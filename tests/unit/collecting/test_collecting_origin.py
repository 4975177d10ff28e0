"""Received fields of many servers: who the client was, and whom to believe."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.collecting.accounts import Believed, MultiDrop
from gatepost.collecting.origin import UNKNOWN, origin, read_hop
from gatepost.collecting.sender import recipients_of, sender_of
from gatepost.content.headers import Section
from unit.collecting.doubles import account

# who wrote it, the value, address, verified name, what was said
WRITTEN = [
    (
        "postfix",
        "from mail.a.example (mail.a.example [192.88.99.1])"
        "\n\tby mx.b.example (Postfix) with ESMTPS id 1 for <x@b.example>; now",
        "192.88.99.1",
        "mail.a.example",
        "mail.a.example",
    ),
    (
        "postfix, unknown",
        "from [10.1.1.1] (unknown [192.88.99.1])\n\tby mx.b.example (Postfix) with ESMTP id 1; now",
        "192.88.99.1",
        "",
        "[10.1.1.1]",
    ),
    (
        "postfix, IPv6",
        "from a.example (a.example [IPv6:2001:4860::5]) by mx.b.example; now",
        "2001:4860::5",
        "a.example",
        "a.example",
    ),
    (
        "exim",
        "from mail.a.example ([192.88.99.1] helo=said.example)"
        "\n\tby mx.b.example with esmtps (TLS1.3) (Exim 4.96) id 1-2; now",
        "192.88.99.1",
        "mail.a.example",
        "said.example",
    ),
    (
        "exim, no name",
        "from [192.88.99.1] (port=4711 helo=[10.9.9.9])\n\tby mx.b.example with esmtp (Exim 4.96) id 1; now",
        "192.88.99.1",
        "",
        "[10.9.9.9]",
    ),
    (
        "sendmail",
        "from said.example (real.a.example [192.88.99.1] (may be forged))"
        "\n\tby mx.b.example (8.17.1/8.17.1) with ESMTP id 1; now",
        "192.88.99.1",
        "real.a.example",
        "said.example",
    ),
    (
        "qmail",
        "from unknown (HELO said.example) (192.88.99.1)\n  by mx.b.example with SMTP; now",
        "192.88.99.1",
        "",
        "said.example",
    ),
    (
        "qmail, a name",
        "from mail.a.example (HELO said.example) (joe@192.88.99.1) by 0 with SMTP; now",
        "192.88.99.1",
        "mail.a.example",
        "said.example",
    ),
    (
        "google",
        "from mail-x.google.com (mail-x.google.com. [192.88.99.1])"
        "\n        by mx.google.com with ESMTPS id 1.2 for <x@b.example>; now",
        "192.88.99.1",
        "mail-x.google.com",
        "mail-x.google.com",
    ),
    (
        "exchange",
        "from EX1.b.example (192.88.99.1)"
        " by EX2.b.example (10.0.0.2)\n with Microsoft SMTP Server (version=TLS1_2) id 15.1; now",
        "192.88.99.1",
        "",
        "EX1.b.example",
    ),
    (
        "courier",
        "from a.example (a.example [::ffff:192.88.99.1])\n  by mx.b.example with esmtp; now",
        "192.88.99.1",
        "a.example",
        "a.example",
    ),
    (
        "gatepost",
        "from a.example (mail.a.example [192.88.99.1])"
        "\n\tby mx.b.example (Gatepost) with ESMTP\n\tid 06HK3M-9Q7TZA-1;\n\tnow",
        "192.88.99.1",
        "mail.a.example",
        "a.example",
    ),
]


@pytest.mark.parametrize(
    ("value", "address", "name", "helo"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN]
)
def test_what_servers_write(value, address, name, helo):
    peer, said = origin(section(value), Believed())
    assert (str(peer), peer.found, said) == (address, name, helo)


def section(*received: str, top: str = "", below: str = "") -> Section:
    lines = "".join(f"Received: {value}\n" for value in received)
    return Section(f"{top}{lines}{below}\n".encode())


INNER = "from relay.b.example (relay.b.example [10.0.0.7]) by store.b.example; now"
OUTER = "from a.example (a.example [192.88.99.1]) by relay.b.example; now"
FORGED = "from victim.example (victim.example [198.41.0.4]) by relay.b.example; now"
PUBLIC = "from out.b.example (out.b.example [192.88.98.7]) by store.b.example; now"


def test_the_line_below_is_believed_only_where_its_writer_is():
    assert str(origin(section(OUTER, FORGED), Believed())[0]) == "192.88.99.1"
    assert str(origin(section(INNER, OUTER, FORGED), Believed())[0]) == "192.88.99.1"
    assert str(origin(section(PUBLIC, OUTER, FORGED), Believed())[0]) == "192.88.98.7"
    by_network = Believed(networks=(ip_network("192.88.98.0/24"),))
    assert str(origin(section(PUBLIC, OUTER, FORGED), by_network)[0]) == "192.88.99.1"
    by_name = Believed(names=("*.b.example",))
    assert str(origin(section(PUBLIC, OUTER, FORGED), by_name)[0]) == "192.88.99.1"


def test_a_name_that_was_only_said_isnt_believed():
    said = "from out.b.example (unknown [192.88.98.7]) by store.b.example; now"
    assert str(origin(section(said, FORGED), Believed(names=("*.b.example",)))[0]) == "192.88.98.7"


def test_who_has_no_verified_name_isnt_believed_by_any():
    nameless = "from out.b.example (unknown [192.88.98.7]) by store.b.example; now"
    assert str(origin(section(nameless, FORGED), Believed(names=("*",)))[0]) == "192.88.98.7"


def test_what_a_writer_says_of_itself_is_nobodys_address():
    own = "from somewhere by mx.b.example (mx.b.example [192.88.98.7]) with SMTP; now"
    assert origin(section(own, FORGED), Believed())[0].address == UNKNOWN


def test_who_hands_on_by_lmtp_is_the_same_providers():
    handed = "from mx.b.example (mx.b.example [192.88.98.7]) by store.b.example with LMTP; now"
    assert str(origin(section(handed, OUTER, FORGED), Believed())[0]) == "192.88.99.1"


def test_steps_within_a_machine_are_gone_over():
    local = "from localhost (localhost [127.0.0.1]) by store.b.example with LMTP; now"
    queued = "(qmail 4711 invoked by uid 89); now"
    own = "by store.b.example (Postfix, from userid 5) id 1; now"
    assert str(origin(section(own, local, queued, OUTER, FORGED), Believed())[0]) == "192.88.99.1"


@pytest.mark.parametrize(
    "received",
    [(), ("from somewhere by mx; now",), (INNER,), ("nonsense",), ("from mx.b.example by store; now", FORGED)],
)
def test_where_nothing_says_who_it_was_nobody_is_named(received):
    peer, _ = origin(section(*received), Believed())
    assert peer.address == UNKNOWN


@given(st.lists(st.text(alphabet='from by(1.2)[:]helo=;< >@\t\\"é', max_size=200), max_size=4))
def test_whatever_stands_there_nothing_is_raised(values):
    origin(section(*values), Believed(names=("*",)))


@given(st.text(max_size=5000))
def test_a_field_of_any_text_is_read(value):
    read_hop(value)


@pytest.mark.parametrize("piece", ["(", "f" * 40 + ":", "for a@", "1.", "[", "helo=", "a@" * 3])
def test_a_long_field_takes_no_longer_than_a_short_one_by_its_length(piece):
    import time

    def cost(times: int) -> float:
        began = time.process_time()
        for _ in range(5):
            read_hop("from " + piece * times)
        return time.process_time() - began

    cost(10)
    assert cost(200_000) < 200 * (cost(1000) + 0.001)


def test_the_sender_is_the_return_paths():
    assert (
        sender_of(section(top="Return-Path: <carl@example.com>\nReturn-Path: <x@example.com>\n")).address
        == "carl@example.com"
    )
    for value in ("<>", "", "nonsense<", "<a b@c>"):
        assert not sender_of(section(top=f"Return-Path: {value}\n"))
    assert not sender_of(section())


def named(section_: Section, envelope: MultiDrop, **facts) -> list[str]:
    return [str(one) for one in recipients_of(section_, account(envelope=envelope, **facts))]


def test_who_is_named_in_the_header_field_gets_it_and_else_the_account():
    field = MultiDrop("X-Envelope-To", domains=("example.org",))
    several = section(
        OUTER, top="X-Envelope-To: <bob@example.org>, carl@example.com\nX-Envelope-To: dora@example.org\n"
    )
    assert named(several, field) == ["bob@example.org", "dora@example.org"]
    assert named(section(OUTER), field) == ["ann@example.org"]
    assert named(section(top="X-Envelope-To: carl@example.com\n"), field) == ["ann@example.org"]


def test_what_came_with_the_message_counts_only_where_the_server_says_nothing():
    field = MultiDrop("Delivered-To")
    assert named(
        section(OUTER, top="Delivered-To: bob@example.org\n", below="Delivered-To: boss@example.org\n"), field
    ) == ["bob@example.org"]
    assert named(section(OUTER, below="Delivered-To: bob@example.org\n"), field) == ["bob@example.org"]


def test_what_the_server_puts_before_an_address_is_taken_off():
    field = MultiDrop("Delivered-To", prefix="mbox-isp-", domains=("example.org",))
    assert named(section(top="Delivered-To: mbox-isp-bob@example.org\n"), field) == ["bob@example.org"]


@pytest.mark.parametrize(
    "value",
    [
        ", ".join(f"user{number}@example.org" for number in range(21)),
        ", ".join(f"user{number}@example.org" for number in range(2000)),
        "\nX-Envelope-To: ".join(f"user{number}@example.org" for number in range(300)),
    ],
    ids=["one more", "2000 at once", "300 fields"],
)
def test_no_header_makes_more_recipients_than_the_account_allows_and_somebody_sees_that_there_were_more(value):
    found = named(section(top=f"X-Envelope-To: {value}\n"), MultiDrop("X-Envelope-To"), most_recipients=20)
    assert found == [*(f"user{number}@example.org" for number in range(19)), "ann@example.org"]


def test_as_many_as_the_account_allows_are_all():
    many = [f"user{number}@example.org" for number in range(20)]
    top = f"X-Envelope-To: {', '.join(many)}\n"
    assert named(section(top=top), MultiDrop("X-Envelope-To"), most_recipients=20) == many


@pytest.mark.parametrize(
    ("value", "whom"),
    [
        ("bob@example.org (for ann, mostly)", ["bob@example.org"]),
        ('"Boss, The" <bob@example.org>, <bob@Example.ORG>', ["bob@example.org"]),
        ("us: bob@example.org, dora@example.org;", ["bob@example.org", "dora@example.org"]),
        ("undisclosed-recipients:;", ["ann@example.org"]),
        ("<>", ["ann@example.org"]),
        ("bob", ["ann@example.org"]),
    ],
)
def test_addresses_as_they_may_be_written(value, whom):
    field = MultiDrop("X-Envelope-To", domains=("example.org",))
    assert [one.lower() for one in named(section(top=f"X-Envelope-To: {value}\n"), field)] == whom


def test_the_recipient_of_a_received_field():
    value = (
        "from a.example (a.example [192.88.99.1]) by mx.b.example (Postfix) with ESMTP id 1 for <bob@example.org>; now"
    )
    forged = "from x (x [192.88.99.1]) by mx for <boss@example.org>; now"
    assert named(section(value, forged), MultiDrop("Received")) == ["bob@example.org"]
