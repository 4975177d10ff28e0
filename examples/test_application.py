"""Test an application that sends mail: a real server in the test, in memory, on a free port.

The fixture `gatepost` comes with `pip install gatepost`.
"""

import smtplib

import pytest


def send_welcome(host: str, port: int, to: str) -> None:
    """The application's own code."""
    with smtplib.SMTP(host, port) as smtp:
        smtp.sendmail("app@example.org", [to], f"Subject: welcome\r\nTo: {to}\r\n\r\nHello!\r\n")


def test_a_welcome_is_sent(gatepost):
    send_welcome("127.0.0.1", gatepost.port, "ann@example.org")
    message = gatepost.wait_for_message(to="ann@example.org")
    assert message.subject == "welcome"


def test_a_full_mailbox_is_noticed(gatepost):
    gatepost.script("RCPT", "452 4.2.2 mailbox full")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send_welcome("127.0.0.1", gatepost.port, "ann@example.org")
    send_welcome("127.0.0.1", gatepost.port, "ann@example.org")  # a script happens once; then all is as usual
    assert [message.recipients for message in gatepost.messages] == [["ann@example.org"]]
