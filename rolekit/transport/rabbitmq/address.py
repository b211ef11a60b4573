"""Where the broker is, and what a failed connection means."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
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

    urls: tuple[URL, ...]
    shown: str


@dataclass(frozen=True, slots=True)
class UrlFile:
    """A URL that was read from a file, which is read again before each connection.

    Attributes:
        url: As it was read first; used as long as the file cannot be.
    """

    url: str
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
        ConfigError: It is no such URL.
    """
    scheme, _, rest = url.partition("://")
    netloc, slash, path = rest.partition("/")
    userinfo, at, hosts = netloc.rpartition("@")
    urls: list[URL] = []
    try:
        for host in hosts.split(","):
            one = URL(f"{scheme}://{userinfo}{at}{host}{slash}{path}")
            if one.host is None or scheme not in {"amqp", "amqps"}:
                raise ValueError("a host and the scheme amqp or amqps are expected")  # noqa: TRY301
            urls.append(one.with_query(_checked(one.query)))
    except ValueError as error:
        said = str(error).rstrip(".")
        raise ConfigError(
            f"The broker's URL cannot be read: {said}{'' if said.endswith('?') else '.'}",
            fix="Write amqp://user:password@host:5672/vhost, several hosts with commas.",
        ) from error
    shown = f"{scheme}://{hosts}/{path.partition('?')[0]}"
    return Address(tuple(urls), shown)


def _checked(query: Mapping[str, str]) -> dict[str, str]:
    """Return a URL's parameters, those that are not given too."""
    for name, value in query.items():
        if name not in PARAMETERS:
            raise ValueError(
                f"there is no parameter {name}.{nearest(name, PARAMETERS)}".rstrip(".")
            )
        if name in RANGES:
            low, high, unit = RANGES[name]
            if not value.isdigit() or not low <= int(value) <= high:
                raise ValueError(f"{name} is {value}; {low} to {high} {unit} are expected")
    return {"heartbeat": str(HEARTBEAT_S), **query}


def explained(error: Exception, address: Address, url: URL) -> Unavailable | ConfigError:
    """Say what a failed connection means, and what to look at."""
    said = (str(error) or type(error).__name__).rstrip(".")
    where = f"{url.scheme}://{url.host}:{url.port}"
    user, vhost = url.user or "guest", url.path.removeprefix("/") or "/"
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
    said = f"{error.reason or ''} {getattr(error, 'verify_message', '')}".strip() or str(error)
    said = said.rstrip(".")
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
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
