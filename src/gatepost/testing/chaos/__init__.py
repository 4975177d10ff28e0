"""Sessions that no client would hold, by number, against any SMTP server, and what must hold in each of them.

`generate` makes a session from a number, `Watch` sees a dialogue and says what is wrong with it, `run` plays many
against an arena: a service over TCP, or a server in memory.
"""

from gatepost.testing.chaos.lines import Arena, Line, MemoryArena, TcpArena, Wrong
from gatepost.testing.chaos.playing import Finding, Report, expected_with, play, run, run_with
from gatepost.testing.chaos.steps import Handshake, HangUp, Hear, Send, Session, Shut, Step
from gatepost.testing.chaos.walk import EDITION, generate
from gatepost.testing.chaos.watch import Expected, Mode, Watch
from gatepost.testing.chaos.words import Knobs

__all__ = [
    "EDITION", "Arena", "Expected", "Finding", "Handshake", "HangUp", "Hear", "Knobs", "Line", "MemoryArena", "Mode",
    "Report", "Send", "Session", "Shut", "Step", "TcpArena", "Watch", "Wrong", "expected_with",
    "generate", "play", "run", "run_with",
]  # fmt: skip
