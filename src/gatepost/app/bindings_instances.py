"""A sink belongs to one virtual server: what comes in by other listeners isn't its business. Contract: Bindings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gatepost.hooks.rules import When
from gatepost.hooks.stages import AFTERWARDS, OUTBOUND
from gatepost.plugins.loaded import Loaded, PluginError

_WITHOUT_LISTENER = AFTERWARDS | OUTBOUND


def keep_to_instance(loaded: Loaded, instance: int, instances: Mapping[str, int]) -> None:
    """Let a plugin be asked only at the listeners with that number, where a listener is known. PluginError if its
    conditions name others.
    """
    names = tuple(name for name, number in instances.items() if number == instance)
    for at, binding in enumerate(loaded.bindings):
        if binding.stage in _WITHOUT_LISTENER:
            continue
        when = binding.when or When()
        kept = tuple(name for name in names if not when.listeners or name in when.listeners)
        if not kept:
            here, said = ", ".join(names) or "no listener", ", ".join(when.listeners) or "none"
            raise PluginError(
                f'plugin "{loaded.name}": instance {instance} is {here}, and when.listener says {said}; '
                "take one of the two away"
            )
        loaded.bindings[at] = replace(binding, when=replace(when, listeners=kept))
