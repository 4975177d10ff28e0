"""The dialect `program`: any program that reads a mail and answers by its output, its exit code, or its files."""

from gatepost.plugins.program.loading import PROCESSES, PROGRAM_LIMITS, load_program
from gatepost.plugins.program.options import ExitCodes, OptionError, ProgramOptions, SpamCodes

__all__ = [
    "PROCESSES",
    "PROGRAM_LIMITS",
    "ExitCodes",
    "OptionError",
    "ProgramOptions",
    "SpamCodes",
    "load_program",
]
