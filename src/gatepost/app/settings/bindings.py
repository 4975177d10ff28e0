"""Virtual servers by their numbers: the listeners, counted from 1 as smtpreg does."""

from __future__ import annotations

from collections.abc import Iterator

from gatepost.app.settings.problems import Problem
from gatepost.app.settings.root import Settings


def instances(settings: Settings) -> dict[str, int]:
    """The number of each listener for mail, by its name: from 1, in the order of the settings."""
    return {listener.name: number for number, listener in enumerate(settings.mail_listeners, 1)}


def check_instances(settings: Settings) -> Iterator[Problem]:
    """A sink's virtual server is one of the listeners."""
    numbers = instances(settings)
    for at, plugin in enumerate(settings.plugin):
        if plugin.enabled and plugin.sink is not None and plugin.sink.instance > len(numbers) > 0:
            there = ", ".join(f"{number} {name}" for name, number in numbers.items())
            what = f"there is no instance {plugin.sink.instance}"
            yield Problem(
                ("plugin", at, "sink", "instance"), what, f"the listeners are counted: {there}", "instance = 1"
            )
