"""What every test may say of itself: `@pytest.mark.needs("swaks")`.

A test whose program is missing is left out, plainly; where CI=true it fails instead, so that nothing is ever proven by
leaving it out. tests/needs.sh installs what is missing where it may.
"""

from __future__ import annotations

import pytest

from programs import MUST_BE_THERE, find


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(program, ...): programs of the system that the test runs")


def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = [name for mark in item.iter_markers("needs") for name in mark.args]
    if missing := ", ".join(name for name in wanted if find(name) is None):
        if MUST_BE_THERE:
            pytest.fail(f"{missing} must be here where CI is set; see tests/needs.sh", pytrace=False)
        pytest.skip(f"needs {missing}; see tests/needs.sh")
