"""Child processes that run plugins: started, spoken to, watched, killed and started again; whatever they do, nothing
else is harmed. Nothing here knows a language: a host is any program that speaks the frames of `wire.host`.
"""

from gatepost.plugins.host.confinement import Limits
from gatepost.plugins.host.crew import Crew
from gatepost.plugins.host.errors import HookFailed, HostBusy, HostDown, HostError, HostHung
from gatepost.plugins.host.launching import Command
from gatepost.plugins.host.life import LoadRefused, Recipe
from gatepost.plugins.host.questions import Backoff

__all__ = [
    "Backoff",
    "Command",
    "Crew",
    "HookFailed",
    "HostBusy",
    "HostDown",
    "HostError",
    "HostHung",
    "Limits",
    "LoadRefused",
    "Recipe",
]
