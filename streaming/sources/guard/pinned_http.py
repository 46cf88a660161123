"""An HTTP transport that connects only to pinned addresses; the URL's host name is used for TLS and headers only."""

from __future__ import annotations

import ipaddress
import ssl
from functools import cached_property

import httpx

from streaming.errors import AddressRefused
from streaming.network_policy import PinnedHosts


class PinnedTransport(httpx.BaseTransport):
    """Sends each request, redirected ones included, to a checked address. It verifies certificates of public hosts."""

    def __init__(self, name: str, hosts: PinnedHosts) -> None:
        """`name` is the source's display name, for messages; `hosts` resolves and checks the addresses."""
        self._name = name
        self._hosts = hosts

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to the first address that answers. Raises `AddressRefused` and httpx's errors."""
        url = request.url
        if url.scheme not in ("http", "https"):
            raise AddressRefused(self._name, f"it leads to {url.scheme}://", "give an http:// or https:// address")
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = self._hosts.addresses(url.host, port)
        for number, address in enumerate(addresses, 1):
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},
            )
            try:
                return self._transport_for(address).handle_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise AssertionError("a host has at least one address")

    def close(self) -> None:
        """Close all connections."""
        for name in ("_checking", "_trusting"):
            transport = self.__dict__.get(name)
            if transport is not None:
                transport.close()

    def _transport_for(self, address: str) -> httpx.HTTPTransport:
        found = ipaddress.ip_address(address)
        return self._trusting if found.is_private or found.is_loopback else self._checking

    @cached_property
    def _checking(self) -> httpx.HTTPTransport:
        return httpx.HTTPTransport(trust_env=False)

    @cached_property
    def _trusting(self) -> httpx.HTTPTransport:
        """The transport for cameras in the local network, whose certificates are self-signed."""
        return httpx.HTTPTransport(verify=trusting_context(), trust_env=False)


def trusting_context() -> ssl.SSLContext:
    """A TLS context that encrypts, but does not verify the server's certificate."""
    # Without the system's certificates, which nobody asks here and which take 35 ms to read.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
