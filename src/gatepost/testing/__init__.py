"""Doubles and tools for tests: `try_plugin`, the pytest fixtures, a server without sockets. No room imports this."""

from gatepost.testing.trying import Story, try_plugin

__all__ = ["Story", "try_plugin"]
