"""APOP's digest."""

from gatepost.wire.pop3.apop import Apop, apop_digest

TIMESTAMP = "<1896.697170952@dbc.mtview.ca.us>"
DIGEST = "c4c9334bac560ecc979e58001b3e22fb"


def test_the_example_of_the_rfc():  # rfc1939#7
    assert apop_digest(TIMESTAMP, "tanstaaf") == DIGEST
    assert Apop(TIMESTAMP, DIGEST).fits("tanstaaf")


def test_another_password_another_greeting_another_digest():
    assert not Apop(TIMESTAMP, DIGEST).fits("tanstaa")
    assert not Apop(TIMESTAMP.replace("1896", "1897"), DIGEST).fits("tanstaaf")
    assert not Apop(TIMESTAMP, "").fits("tanstaaf")
    assert not Apop(TIMESTAMP, DIGEST).fits("\udcff")
