"""No report about settings repeats a secret, wherever it was written; whatever is wrong with them is a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatepost.app.settings import SettingsError, load

HIDDEN = "hunter2hunter2hunter2"
RELAY = '[[route]]\nmatch = "*"\nfor = "authenticated"\n'


@pytest.mark.parametrize(
    "text",
    [
        f'[delivery]\nproxy = "socks5://ann:{HIDDEN}"',
        f'[delivery]\nproxy = "socks5://ann:{HIDDEN}@h:99999"',
        f'[delivery]\nproxy = "socks5://ann:x@h/{HIDDEN}"',
        f'[delivery]\nproxy = "socks5://ann:x#@h:80:{HIDDEN}"',
        f'[delivery]\nproxy = "{HIDDEN}://h"',
        f'[delivery]\nproxy = ["socks5://ann:{HIDDEN}@h"]',
        f'[delivery]\nproxy = {{ url = "{HIDDEN}" }}',
        f'[delivery]\nprxy = "socks5://ann:{HIDDEN}@h"',
        f'[srs]\nsecret = [1, ["{HIDDEN}"]]',
        f'[srs]\nsecrt = "{HIDDEN}"',
        f'[batv]\nsecret = "{HIDDEN}"\ndays = 0',
        f'{RELAY}deliver = {{ relay = "h:25", auth = {{ user = "ann", passwrd = "{HIDDEN}" }} }}',
        f'{RELAY}deliver = {{ relay = "h:25", auth = {{ user = "ann", password = ["{HIDDEN}"] }} }}',
        f'{RELAY}deliver = {{ relay = "h:25", auth = {{ user = "ann", password = "{HIDDEN}" }}, tsl = "none" }}',
    ],
)
def test_a_report_has_no_secret(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text(f'hostname = "mx.example.org"\ndata = "d"\n{text}\n')
    with pytest.raises(SettingsError) as caught:
        load(file, environ={})
    assert "gatepost.toml:" in str(caught.value)
    assert HIDDEN not in str(caught.value)


def test_a_misspelt_variable_hides_its_value(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text('hostname = "mx.example.org"\n')
    with pytest.raises(SettingsError) as caught:
        load(file, environ={"GATEPOST__DELIVERY__PRXY": f"socks5://ann:{HIDDEN}@h"})
    assert 'did you mean "proxy"?' in str(caught.value)
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[listen]]\nname = "mx"\naddress = "127.0.0.1:25"\nproxy_protocol = -1', "-1 isn't a text"),
        (f'{RELAY}deliver = {{ by = "relay", hosts = true }}', "true isn't a text"),
        (f'{RELAY}deliver = {{ by = ["relay"] }}', "by"),
        (f'[tls.client]\nchain = "{"a" * 300}"\nkey = "k"', "longer than a file's name"),
    ],
)
def test_values_of_other_types_are_reported_and_no_accident(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text(f'hostname = "mx.example.org"\n{text}\n')
    with pytest.raises(SettingsError) as caught:
        load(file, environ={})
    assert words in str(caught.value)
