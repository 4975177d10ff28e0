"""Binding a listening socket, and saying in words for people why it can't be bound."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

_LISTENING = "0A"  # the state column of /proc/net/tcp


def bind(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A bound, non-blocking TCP socket that doesn't listen yet; IPv6 only where `host` is an IPv6 address.

    Port 0 takes a free one. Raises OSError whose text says what is wrong and, where cheaply known, who holds the port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise OSError(
            error.errno, f"cannot listen at {host}: it is no address and no name ({error.strerror})"
        ) from error
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise explained(error, host, port) from error
    return bound


def explained(error: OSError, host: str, port: int) -> OSError:
    """The same error, in words that say what to do."""
    where = f"cannot listen at {host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            holder = _holder(port)
            text = f"{where}: the port is taken" + (f" by {holder}" if holder else "")
        case errno.EACCES:
            text = f"{where}: permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            text = f"{where}: this machine doesn't have that address"
        case _:
            text = f"{where}: {error.strerror or error}"
    return OSError(error.errno, text)


def _holder(port: int) -> str | None:
    """`name (process 123)` of who listens at `port`, on Linux, as far as we may see it."""
    with suppress(OSError, ValueError, IndexError):
        sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
        for process in Path("/proc").iterdir() if sockets else ():
            if not process.name.isdigit():
                continue
            with suppress(OSError):  # another user's process, or one that has just ended
                if any(str(link.readlink()) in sockets for link in (process / "fd").iterdir()):
                    return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return None


def _inodes(port: int) -> set[str]:
    """The inodes of the sockets that listen at `port`."""
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    found.add(columns[9])
    return found
