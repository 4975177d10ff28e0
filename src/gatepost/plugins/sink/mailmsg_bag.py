"""IMailMsgPropertyBag for a sink in Python: properties by id, over a plain bag. Contract: Interfaces.

Every method has its original name too: `GetDWORD` is `get_dword`. What COM gives back through pointers is returned, and
what it gives back as an HRESULT that isn't S_OK is raised, with that number as `hresult`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from gatepost.plugins.sink import properties
from gatepost.plugins.sink.constants import E_INVALIDARG, MAILMSG_E_PROPNOTFOUND
from gatepost.plugins.sink.states import Bag

MOST_IN_BAG = 64 * 1024
"""Octets of all properties that a sink may fill one bag with."""
E_NOINTERFACE = 0x80004002
E_OUTOFMEMORY = 0x8007000E
RPC_E_DISCONNECTED = 0x80010108

_AN_ID = 8  # octets that a property costs beside its own
_MOST_ID = 0xFFFFFFFF
_LOGGED = 200  # characters of a field in the log
_log = logging.getLogger("gatepost.plugins")


class PropertyNotFound(LookupError):
    """There is no property of this id."""

    hresult: Final = MAILMSG_E_PROPNOTFOUND


class NoInterface(LookupError):
    """The object hasn't this interface."""

    hresult: Final = E_NOINTERFACE


class CallOver(RuntimeError):
    """The call that this object was made for is over."""

    hresult: Final = RPC_E_DISCONNECTED


class BadArgument(ValueError):
    """An argument that makes no sense."""

    hresult: Final = E_INVALIDARG


class TooMuch(ValueError):
    """More than a bag, or content, can hold."""

    hresult: Final = E_OUTOFMEMORY


class Seal:
    """Whether a call still goes on: all objects that were made for it share one."""

    __slots__ = ("_at_end", "_is_open")

    def __init__(self) -> None:
        self._is_open = True
        self._at_end: list[Callable[[], None]] = []

    def check(self) -> None:
        """CallOver, once it is closed."""
        if not self._is_open:
            raise CallOver("the sink's call is over: its objects can't be used any more")

    def at_end(self, finish: Callable[[], None]) -> None:
        """Have this called when the call ends, the objects being usable still."""
        self._at_end.append(finish)

    def close(self) -> None:
        """The call is over. What was to be finished then is; an error of it goes on, the objects being closed."""
        if not self._is_open:
            return
        try:
            for finish in self._at_end:
                finish()
        finally:
            self._is_open = False
            self._at_end.clear()


class Unknown:
    """IUnknown, as far as it means anything in Python: which interfaces an object has."""

    interfaces: tuple[str, ...] = ()
    """Their names; `query_interface` gives the object itself for them."""

    def query_interface(self, interface: str) -> Any:
        """The object that has the interface of this name or "{IID}". NoInterface."""
        name = _BY_IID.get(interface.strip("{}").upper(), interface)
        if name in self.interfaces or name == "IUnknown":
            return self
        raise NoInterface(f"{type(self).__name__} has no interface {interface}; it has {', '.join(self.interfaces)}")

    QueryInterface = query_interface


class MailMsgPropertyBag(Unknown):
    """IMailMsgPropertyBag: what pServer and pSession are, and a message is beside."""

    interfaces: tuple[str, ...] = ("IMailMsgPropertyBag",)

    def __init__(self, bag: Bag, seal: Seal) -> None:
        self._seal = seal
        self._own = bag

    def put_property(self, id: int, value: bytes) -> None:
        """Set a property to these octets. TooMuch if the bag can't hold them."""
        self._put(id, value)

    def get_property(self, id: int) -> bytes:
        """A property's octets. PropertyNotFound."""
        return self._get(id)

    def put_string(self, id: int, text: str) -> None:
        """Set a property to a text, in UTF-8 (a StringA)."""
        self._put(id, properties.string(text))

    def get_string(self, id: int) -> str:
        """The text of a property. PropertyNotFound."""
        return properties.read_string(self._get(id))

    def put_wide_string(self, id: int, text: str) -> None:
        """Set a property to a text, in UTF-16 (a StringW)."""
        self._put(id, properties.wide(text))

    def get_wide_string(self, id: int) -> str:
        """The text of a property that is in UTF-16. PropertyNotFound; ValueError if it isn't."""
        return properties.read_wide(self._get(id))

    def put_dword(self, id: int, value: int) -> None:
        """Set a property to a number. ValueError beyond 32 bits."""
        self._put(id, properties.dword(value))

    def get_dword(self, id: int) -> int:
        """The number in a property. PropertyNotFound; ValueError if it is none."""
        return properties.read_dword(self._get(id))

    def put_bool(self, id: int, value: object) -> None:
        """Set a property to true or false."""
        self._put(id, properties.boolean(value))

    def get_bool(self, id: int) -> bool:
        """Whether a property is true. PropertyNotFound; ValueError if it is no truth value."""
        return self.get_dword(id) != 0

    def __contains__(self, id: object) -> bool:
        self._seal.check()
        return id in self._bag

    PutProperty, GetProperty = put_property, get_property
    PutStringA, GetStringA = put_string, get_string
    PutStringW, GetStringW = put_wide_string, get_wide_string
    PutDWORD, GetDWORD = put_dword, get_dword
    PutBool, GetBool = put_bool, get_bool

    @property
    def _bag(self) -> Bag:
        return self._own

    def _get(self, id: int) -> bytes:
        self._seal.check()
        value = self._bag.get(id)
        if value is None:
            raise PropertyNotFound(f"there is no property 0x{id:X}" if isinstance(id, int) else f"{id!r} is no id")
        return value

    def _put(self, id: int, value: bytes) -> None:
        self._seal.check()
        if not isinstance(id, int) or not 0 <= id <= _MOST_ID:
            raise BadArgument(f"{id!r} is no property's id")
        octets = bytes(memoryview(value))
        bag = self._bag
        taken = sum([len(one) + _AN_ID for one in bag.values()]) - len(bag.get(id, b""))
        if taken + len(octets) > MOST_IN_BAG:
            raise TooMuch(f"the properties would take more than {MOST_IN_BAG >> 10} KiB")
        bag[int(id)] = octets
        self._was_put(int(id))

    def _was_put(self, id: int) -> None:
        """A property has been set."""


class MailMsgLoggingPropertyBag(MailMsgPropertyBag):
    """IMailMsgLoggingPropertyBag: a bag that can write into the server's log."""

    interfaces = ("IMailMsgLoggingPropertyBag", "IMailMsgPropertyBag")

    def write_to_log(
        self,
        client_host: str = "",
        client_user: str = "",
        server_address: str = "",
        operation: str = "",
        target: str = "",
        parameters: str = "",
        version: str = "",
        bytes_sent: int = 0,
        bytes_received: int = 0,
        processing_time_ms: int = 0,
        win32_status: int = 0,
        protocol_status: int = 0,
        port: int = 0,
        http_header: str = "",
    ) -> None:
        """One line in the server's log, what is empty or 0 left out; control characters become blanks."""
        self._seal.check()
        said = {
            "client": client_host,
            "user": client_user,
            "server": server_address,
            "operation": operation,
            "target": target,
            "parameters": parameters,
            "version": version,
            "sent": bytes_sent,
            "received": bytes_received,
            "ms": processing_time_ms,
            "win32": win32_status,
            "status": protocol_status,
            "port": port,
            "header": http_header,
        }
        _log.info("sink: %s", " ".join(f"{name}={_safe(value)}" for name, value in said.items() if value))

    WriteToLog = write_to_log


def _safe(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value)[:_LOGGED])


_BY_IID = {
    "AB95FB40-A34F-11D1-AA8A-00AA006BC80B": "IMailMsgProperties",
    "D1A97920-A891-11D1-AA91-00AA006BC80B": "IMailMsgRecipientsBase",
    "19507FE0-A892-11D1-AA91-00AA006BC80B": "IMailMsgRecipients",
    "4C28A700-A892-11D1-AA91-00AA006BC80B": "IMailMsgRecipientsAdd",
    "A2F196C0-A351-11D1-AA8A-00AA006BC80B": "IMailMsgPropertyManagement",
    "D6D0509C-EC51-11D1-AA65-00C04FA35B82": "IMailMsgPropertyBag",
    "4CB17416-EC53-11D1-AA65-00C04FA35B82": "IMailMsgLoggingPropertyBag",
    "00000000-0000-0000-C000-000000000046": "IUnknown",
}
