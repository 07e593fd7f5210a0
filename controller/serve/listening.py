"""The TCP address of the API: read, refused where it would be open to all, bound."""

import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable

from controller.errors import UsageError
from controller.model.settings import Settings, Tls

ADDRESS = re.compile(r"(?:(?P<name>[^\[\]:]+)|\[(?P<six>[^\[\]]+)\]):(?P<port>[0-9]{1,5})")
LAST_PORT = 65_535


def listen(settings: Settings) -> socket.socket:
    """Return a bound socket for `settings.listen`; nobody is answered before the API is up.

    Raises:
        UsageError: no address, one that can't be bound or that would be open without TLS; a
            certificate or key that can't be used.
    """
    address = settings.listen or ""
    host, port = split(address)
    family, place = resolve(host, port, address)
    if settings.tls is not None:
        check(settings.tls)
    elif not is_loopback(place[0]) and not settings.insecure:
        raise UsageError(
            "anybody on the way could read tokens there",
            where=f"listen: {address}",
            remedy="set `tls: {cert, key}`, listen on 127.0.0.1, or say `insecure: true`",
        )
    return bind(family, place, address)


def split(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, IPv6 in brackets. Raises UsageError."""
    found = ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > LAST_PORT:
        raise UsageError(
            "is no address", where=f"listen: {address}", remedy="write HOST:PORT: 127.0.0.1:8080"
        )
    return found["name"] or found["six"], int(found["port"])


def resolve(host: str, port: int, address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Return the family and the numeric address to bind. Raises UsageError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise unusable(address, error) from error
    family, _, _, _, place = found[0]
    return family, (str(place[0]), port)


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def check(tls: Tls) -> None:
    """Raise UsageError when certificate and key can't be used together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except OSError as error:  # ssl's own errors are some, too
        raise UsageError(
            f"can't be used: {error}",
            where=f"tls: {tls.cert}, {tls.key}",
            remedy="name a PEM certificate chain and its key without a passphrase",
        ) from error


def bind(family: socket.AddressFamily, place: tuple[str, int], address: str) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(place)
    except OSError as error:
        made.close()
        raise unusable(address, error) from error
    made.setblocking(False)  # noqa: FBT003 - the only way to say it
    return made


def unusable(address: str, error: OSError) -> UsageError:
    return UsageError(
        error.strerror or str(error), where=f"listen: {address}", remedy="choose another address"
    )


def names(settings: Settings) -> frozenset[str]:
    """Return the host names that requests may call the listener by; IP addresses always may."""
    host, _ = split(settings.listen or "")
    own = {host, "localhost", socket.gethostname(), socket.getfqdn()}
    return frozenset(lower(own | set(settings.hosts)))


def lower(hosts: Iterable[str]) -> set[str]:
    return {host.lower() for host in hosts}
