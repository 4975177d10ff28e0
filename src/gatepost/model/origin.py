"""For whom a message is sent on: the client that has brought it, as the next server may be told.

The names of the attributes are those of Postfix's XFORWARD_README and XCLIENT_README.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from gatepost.model.peer import Address

_LONGEST_HELO = 255


@dataclass(frozen=True, slots=True)
class Origin:
    """The session that has brought a message. `name` is the verified reverse name, "" where there is none; `protocol`
    is SMTP, ESMTP or LMTP; `login` is who had authenticated.
    """

    address: Address
    port: int = 0
    protocol: str = "ESMTP"
    helo: str = ""
    name: str = ""
    login: str = ""

    def attributes(self) -> Mapping[str, str]:
        """All of them, "" for what isn't known."""
        return {
            "NAME": self.name,
            "ADDR": f"IPV6:{self.address}" if self.address.version == 6 else str(self.address),
            "PORT": str(self.port) if self.port else "",
            "PROTO": self.protocol,
            "HELO": self.helo,
            "LOGIN": self.login,
            "SOURCE": "REMOTE",
        }

    def fact(self) -> str:
        """As a deposit keeps it, but for the login, which it has anyway."""
        return f"{self.address} {self.port} {self.protocol} {self.name} {self.helo[:_LONGEST_HELO]}"

    @classmethod
    def of_fact(cls, fact: str, login: str) -> Origin | None:
        """What `fact` has kept; None for anything else."""
        words = fact.split(" ")
        if len(words) != 5:
            return None
        try:
            return cls(ip_address(words[0]), int(words[1]), words[2], words[4], words[3], login)
        except ValueError:
            return None
