"""What a server says about itself as plain data: who is asked at each stage, and how it is doing.

The same data goes into the banner, over the control socket, and from workers to their supervisor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatepost.admin.desk import Records
from gatepost.admin.telling import Entry
from gatepost.app.settings.root import Settings
from gatepost.hooks.bindings import Binding
from gatepost.hooks.stages import STAGES, Message
from gatepost.net.certificates import Certificates
from gatepost.plugins.loaded import Loaded

if TYPE_CHECKING:
    from gatepost.app.worker import Worker

SHADOWS_LOOK_BACK_S = 7 * 86400.0
SHADOWS_SESSIONS = 10_000


def plugin_facts(plugins: Iterable[Loaded], settings: Settings) -> list[dict[str, Any]]:
    """Each plugin, and where in which chain it is asked; in the order of the settings, stages in that of a session."""
    order = list(STAGES)
    return [
        {
            "name": plugin.name,
            "dialect": plugin.dialect,
            "source": _near(plugin.source),
            "stages": [
                _binding_facts(binding, settings)
                for binding in sorted(plugin.bindings, key=lambda one: order.index(one.stage.name))
                if not binding.quiet
            ],
            "told": sorted({notice.__name__.lower() for notice, _ in plugin.told}),
        }
        for plugin in plugins
    ]


def _binding_facts(binding: Binding, settings: Settings) -> dict[str, Any]:
    limits = settings.limits
    budget = limits.message_budget if binding.stage is Message else limits.question_budget
    return {
        "stage": binding.stage.name,
        "priority": binding.priority,
        "rule": "" if binding.rule is None else str(binding.rule),
        "conditional": binding.when is not None,
        "timeout_s": min(binding.timeout or budget, budget),
        "on_failure": "" if binding.on_failure is None else binding.on_failure.value,
        "shadow": binding.shadow,
        "always": binding.always,
    }


def _near(source: str) -> str:
    """A file as seen from the working directory, where it lies below it."""
    path = Path(source)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return source


def shadow_facts(sessions: Iterable[Sequence[Entry]]) -> dict[str, dict[str, int]]:
    """What shadows would have done, by plugin: how often they were asked, and each answer that counts."""
    found: dict[str, Counter[str]] = {}
    for entries in sessions:
        for _, _, kind, facts in entries:
            if kind == "asked" and facts.get("shadow"):
                counted = found.setdefault(str(facts.get("plugin")), Counter())
                counted["asked"] += 1
                for verdict in _verdicts(facts):
                    counted[verdict] += 1
    return {plugin: dict(counted) for plugin, counted in found.items()}


def has_shadow(entries: Sequence[Entry]) -> bool:
    """Whether a session's record has a shadow's answer."""
    return any(kind == "asked" and facts.get("shadow") for _, _, kind, facts in entries)


def _verdicts(facts: Mapping[str, Any]) -> list[str]:
    if str(facts.get("why", "")).startswith("failed"):
        return ["failed"]
    said = list(facts["each"].values()) if "each" in facts else [facts.get("verdict", {})]
    return sorted({str(one.get("say", "proceed")) for one in said})


def listener_facts(
    settings: Settings, addresses: Mapping[str, tuple[str, int]], certificates: Certificates | None
) -> dict[str, Any]:
    """What listens where, and the certificates' names with the days they have left."""
    now = datetime.now(UTC)
    expiry = certificates.expiry() if certificates is not None else []
    return {
        "listeners": [
            {
                "name": one.name,
                "address": list(addresses.get(one.name, (one.address.host, one.address.port))),
                "protocol": one.protocol,
                "tls": one.tls,
            }
            for one in settings.listen
        ],
        "certificates": [[name, (end - now).days] for name, end in expiry],
    }


def worker_facts(worker: Worker) -> dict[str, Any]:
    """How one worker is doing."""
    counts = [spool.counts() for spool in worker.delivering.spools]
    addresses = {name: bound.address for name, bound in worker.listeners.items()}
    return {
        **listener_facts(worker.settings, addresses, worker.certificates),
        "generation": worker.generations,
        "sessions": worker.sessions,
        "queued": sum(one.queued for one in counts),
        "held": sum(one.held for one in counts),
        "adopted": len(worker.delivering.adopted),
    }


def told_plugins(plugins: Sequence[Mapping[str, Any]], records: Records, now_s: float) -> list[dict[str, Any]]:
    """Plugins, and beside each shadow what it would have done. Reads the trace: not for the loop."""
    shadows: dict[str, dict[str, int]] = {}
    if any(asked["shadow"] for plugin in plugins for asked in plugin["stages"]):
        since_ms = int((now_s - SHADOWS_LOOK_BACK_S) * 1000)
        shadows = shadow_facts(
            records.sessions(since_ms=since_ms, until_ms=1 << 62, fits=has_shadow, limit=SHADOWS_SESSIONS)
        )
    return [{**plugin, "shadow": shadows.get(plugin["name"])} for plugin in plugins]
