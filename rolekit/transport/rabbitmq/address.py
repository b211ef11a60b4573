"""Where the broker is, and what a failed connection means."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING

import aio_pika
import aiormq
from yarl import URL

from rolekit.config import nearest
from rolekit.errors import ConfigError, Unavailable
from rolekit.transport.rabbitmq.demux import FrameError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEARTBEAT_S = 20
PORTS = {"amqp": 5672, "amqps": 5671}
RANGES = {
    "heartbeat": (0, 65_534, "seconds (0: none)"),
    "frame_max": (4_096, 1_048_576, "bytes"),
}
"""What AMQP, RabbitMQ and the demultiplexer can do."""
FILES = ("cafile", "capath", "certfile", "keyfile")
PARAMETERS = (
    *RANGES, *FILES, "cadata", "server_name", "no_verify_ssl", "auth", "timeout",
)  # fmt: skip
"""Of a URL: all but `frame_max` and `server_name` are aiormq's."""

AWAY = (
    OSError,
    aiormq.exceptions.AMQPError,
    aio_pika.exceptions.AMQPError,
    asyncio.IncompleteReadError,
    FrameError,
    TimeoutError,
    RuntimeError,  # aio-pika: "channel was not opened", "connection closed"
)
"""What is raised when a connection or channel is gone, or cannot be had."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where brokers are, from one URL with one host or several.

    Attributes:
        urls: One for each host.
        shown: Without password, for sentences.
    """

    urls: tuple[URL, ...] = field(repr=False)
    shown: str


@dataclass(frozen=True, slots=True)
class UrlFile:
    """A URL that was read from a file, which is read again before each connection.

    Attributes:
        url: As it was read first; used as long as the file cannot be.
    """

    url: str = field(repr=False)
    path: Path

    def read(self) -> str:
        """Read the file now.

        Raises:
            OSError: It cannot be read.
        """
        return self.path.read_text(encoding="utf-8").rstrip("\r\n")


def parse_address(url: str) -> Address:
    """Read `amqp://user:password@host1:5672,host2:5672/vhost?heartbeat=20`.

    Raises:
        ConfigError: It is no such URL. Quotes nothing of it that may be a password.
    """
    scheme, _, rest = url.partition("://")
    beside, question, query = rest.partition("?")
    netloc, slash, path = beside.partition("/")
    userinfo, at, hosts = netloc.rpartition("@")
    if scheme not in PORTS:
        raise _unreadable("it does not begin with amqp:// or amqps://")
    if "@" in path or "#" in beside or "@" in query.partition("=")[0]:
        raise _unreadable("there is a / ? or # before the host")
    urls: list[URL] = []
    for number, host in enumerate(hosts.split(","), 1):
        try:
            one = URL(f"{scheme}://{userinfo}{at}{host}{slash}{path}{question}{query}")
            port = one.port
        except (ValueError, IndexError):  # yarl raises either
            raise _unreadable(f"host {number} or its port makes no sense") from None
        if not one.host or port == 0:
            raise _unreadable(f"host {number} or its port makes no sense")
        urls.append(one.with_query(_checked(one.query)))
    return Address(tuple(urls), f"{scheme}://{hosts}/{path}")


def _unreadable(why: str) -> ConfigError:
    return ConfigError(
        f"The broker's URL cannot be read: {why}{'' if why.endswith('?') else '.'}",
        fix="Write amqp://user:password@host:5672/vhost, several hosts with commas, and / ? # "
        "@ : within user, password or vhost as %2F %3F %23 %40 %3A.",
    )


def _checked(query: Mapping[str, str]) -> dict[str, str]:
    """Return a URL's parameters, with those that are not given; quotes no value."""
    for name, value in query.items():
        if name not in PARAMETERS:
            meant = nearest(name, PARAMETERS)
            raise _unreadable(f"there is no parameter {name}.{meant}" if meant else
                              f"its parameters are {', '.join(PARAMETERS)}")  # fmt: skip
        if name in RANGES:
            low, high, unit = RANGES[name]
            if not value.isdecimal() or not low <= int(value) <= high:
                raise _unreadable(f"{name} must be {low} to {high} {unit}")
    return {"heartbeat": str(HEARTBEAT_S), **query}


def explained(error: Exception, address: Address, url: URL) -> Unavailable | ConfigError:
    """Say what a failed connection means, and what to look at."""
    said = (str(error) or type(error).__name__).rstrip(".")
    if url.password:
        said = said.replace(url.password, "***")
    where = f"{url.scheme}://{url.host}:{url.port or PORTS[url.scheme]}"
    user = url.user or "guest"
    vhost = url.path.removeprefix("/").replace("%2F", "/") or "/"
    if isinstance(error, (aiormq.exceptions.ProbableAuthenticationError,
                          aiormq.exceptions.AuthenticationError)):  # fmt: skip
        return ConfigError(
            f"The broker {where} refuses user {user}: {said}.",
            fix="Check user and password in `broker`, and `rabbitmqctl list_users`.",
        )
    # aiormq shows which answer it expected, and not the one that came.
    if isinstance(error, aiormq.exceptions.ConnectionNotAllowed) or "Connection.OpenOk" in said:
        return ConfigError(
            f"The broker {where} does not let user {user} into vhost {vhost}: it is not there, "
            "or not granted, or full.",
            fix=f"Make it (rabbitmqctl add_vhost {quote(vhost)}) and grant it (rabbitmqctl "
            f"set_permissions -p {quote(vhost)} {quote(user)} '.*' '.*' '.*').",
        )
    if isinstance(error, ssl.SSLError):
        return _explained_tls(error, where)
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        named = ", ".join(f"{it}={url.query[it]}" for it in FILES if it in url.query)
        return ConfigError(
            f"A file that the broker's URL names cannot be read ({named}): {said}.",
            fix="Name files that are there and that this user may read.",
        )
    hint = ""
    if any(word in said for word in ("reset", "closed", "CERTIFICATE_REQUIRED")):
        wants = (
            ""
            if "certfile" in url.query
            else "; it may want a certificate: certfile=, keyfile="
        )
        hint = wants if url.scheme == "amqps" else "; it may speak TLS only: amqps://"
    return Unavailable(f"The broker {address.shown} cannot be reached: {said}{hint}.")


def _explained_tls(error: ssl.SSLError, where: str) -> ConfigError:
    """Say what is wrong with TLS, as far as OpenSSL tells."""
    reason = getattr(error, "reason", "")
    said = f"{reason or ''} {getattr(error, 'verify_message', '')}".strip() or str(error)
    said = said.rstrip(".")
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return ConfigError(
            f"The broker's port {where} does not speak TLS.",
            fix="Name the port that does (5671 by custom), or write amqp:// for one without.",
        )
    if "ostname mismatch" in said or "IP address mismatch" in said:
        return ConfigError(
            f"The certificate of the broker {where} is for another host: {said}.",
            fix="Connect by a name that it has, or say the one to look for: server_name=.",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigError(
            f"The certificate of the broker {where} is not trusted: {said}.",
            fix="Name the authority that signed it in the broker's URL: cafile=.",
        )
    return ConfigError(
        f"TLS with the broker {where} failed: {said}.",
        fix="Check that the port speaks TLS (5671), and the URL's cafile=, certfile= and "
        "keyfile=.",
    )
