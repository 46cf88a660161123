"""Which addresses a source may connect to. Host names are resolved and checked once, then pinned.

Pinning stops a host name from pointing elsewhere after the check (DNS rebinding). `NetworkPolicy` is an immutable value
for any thread; `PinnedHosts` belongs to one source and may be called from any thread.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streaming.errors import AddressRefused, SourceUnreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], list[str]]

_NEVER: tuple[tuple[str, str], ...] = (
    ("169.254.169.254/32", "a cloud's metadata service"),
    ("168.63.129.16/32", "a cloud's metadata service"),
    ("100.100.100.200/32", "a cloud's metadata service"),
    ("192.0.0.192/32", "a cloud's metadata service"),
    ("fd00:ec2::254/128", "a cloud's metadata service"),
    ("fd20:ce::254/128", "a cloud's metadata service"),
    ("169.254.0.0/16", "link-local"),
    ("fe80::/10", "link-local"),
    ("0.0.0.0/8", "no machine's address"),
    ("::/128", "no machine's address"),
    ("224.0.0.0/4", "multicast"),
    ("ff00::/8", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("192.0.0.0/24", "reserved"),
    ("fec0::/10", "reserved"),
)
_REFUSED: tuple[tuple[Network, str], ...] = tuple((ipaddress.ip_network(text), what) for text, what in _NEVER)

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_\-]{0,62})*\.?")
_NUMBERS = re.compile(r"(?:0[xX][0-9A-Fa-f]*|\d+)(?:\.(?:0[xX][0-9A-Fa-f]*|\d+))*\.?")


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """The networks that may be connected to; link-local, metadata, multicast and reserved addresses never may."""

    networks: tuple[Network, ...] | None = None
    """Allowed networks; None allows every other network, private ones included."""
    is_outside_only: bool = False
    """Whether private, loopback and other addresses that are not global are refused, too."""

    def refusal(self, address: Address) -> str:
        """Why `address` may not be connected to, or "" if it may. IPv4 addresses embedded in it are checked too.

        >>> NetworkPolicy().refusal(ipaddress.ip_address("::ffff:169.254.169.254"))
        "169.254.169.254 is a cloud's metadata service"
        """
        for candidate in _meanings(address):
            for network, what in _REFUSED:
                if candidate.version == network.version and candidate in network:
                    return f"{candidate} is {what}"
            if self.is_outside_only and not candidate.is_global:
                return f"{candidate} is an inside address"
        # Packets go to the plain address, so the IPv6 form of a listed IPv4 address counts as listed.
        plain = (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address
        if self.networks is not None and not any(
            plain.version == network.version and plain in network for network in self.networks
        ):
            return f"{plain} is in none of the networks that are listed"
        return ""


class PinnedHosts:
    """The addresses of the hosts that one source connects to, each host resolved and checked once."""

    def __init__(self, name: str, reach: NetworkPolicy, resolve: Resolve | None = None) -> None:
        """`name` is the source's display name, for messages; `resolve` returns the addresses of a host as text."""
        self._name = name
        self._reach = reach
        self._resolve = resolve or resolve_host
        self._lock = threading.Lock()
        self._pinned: dict[str, tuple[str, ...]] = {}

    def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """The numeric addresses of `host`, the same ones on every call.

        Raises `AddressRefused` if the policy forbids any of them, `SourceUnreachable` if the host has none.
        """
        key = host.rstrip(".").lower()
        with self._lock:
            found = self._pinned.get(key)
            if found is None:
                found = self._pinned[key] = self._look_up(key, port)
            return found

    def _look_up(self, host: str, port: int) -> tuple[str, ...]:
        literal = parse_host(self._name, host)
        if literal is not None:
            texts = [str(literal)]
        else:
            try:
                texts = self._resolve(host, port)
            except (OSError, UnicodeError):
                texts = []
        if not texts:
            raise SourceUnreachable(self._name, "its host name is not known", "check the name, or give its IP address")
        found = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]
        for address in found:
            refusal = self._reach.refusal(address)
            if refusal:
                remedy = "give the camera's own address"
                if self._reach.networks is not None:
                    remedy = "list its network in the configuration, or give a camera in one that is listed"
                raise AddressRefused(self._name, f"it may not be connected to: {refusal}", remedy)
        return tuple(str(address) for address in found)


def resolve_host(host: str, port: int) -> list[str]:
    """The addresses of `host` from the system's resolver, in its order, without IPv6 scopes."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def parse_host(name: str, host: str) -> Address | None:
    """The address that `host` spells out; None if it is a host name. Raises `AddressRefused` for anything else.

    Addresses in other notations (decimal, octal, hexadecimal, shortened) are refused: programs read them differently.

    >>> parse_host("camera", "10.0.0.5"), parse_host("camera", "camera.local")
    (IPv4Address('10.0.0.5'), None)
    """
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if _NUMBERS.fullmatch(host):
        raise AddressRefused(name, "its host is a number in an odd notation", "write it as four numbers, as 10.0.0.5")
    if not _HOST_NAME.fullmatch(host):
        raise AddressRefused(name, "its host is neither a name nor an address", "use letters, digits, dots and dashes")
    return None


def _meanings(address: Address) -> Iterator[Address]:
    """`address` and the IPv4 addresses embedded in it: mapped, compatible, 6to4, Teredo, NAT64."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    number = int(address)
    is_embedded = number >> 32 in (0, 0x64FF9B << 64, 0xFFFF << 16) or number >> 80 == 0x64FF9B0001
    if is_embedded and number > 0xFFFF:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
