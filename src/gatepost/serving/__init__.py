"""Drives sessions: takes what the wire machine says, asks the chain, writes what is due."""
