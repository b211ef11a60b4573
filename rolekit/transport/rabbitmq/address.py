"""Where the broker is, and what a failed connection means."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import aio_pika
import aiormq
from yarl import URL

from rolekit.errors import ConfigError, Unavailable
from rolekit.transport.rabbitmq.demux import FrameError

HEARTBEAT_S = 20

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
            query = {"heartbeat": str(HEARTBEAT_S), **one.query}
            urls.append(one.with_query(query))
    except ValueError as error:
        raise ConfigError(
            f"The broker's URL cannot be read: {error}.",
            fix="Write amqp://user:password@host:5672/vhost, several hosts with commas.",
        ) from error
    shown = f"{scheme}://{hosts}/{path.partition('?')[0]}"
    return Address(tuple(urls), shown)


def explained(error: Exception, address: Address, url: URL) -> Unavailable | ConfigError:
    """Say what a failed connection means, and what to look at."""
    said = str(error) or type(error).__name__
    where = f"{url.scheme}://{url.host}:{url.port}"
    if isinstance(error, (aiormq.exceptions.ProbableAuthenticationError,
                          aiormq.exceptions.AuthenticationError)):  # fmt: skip
        return ConfigError(
            f"The broker {where} refuses user {url.user or 'guest'}: {said}.",
            fix="Check user and password in `broker`, and `rabbitmqctl list_users`.",
        )
    if isinstance(error, aiormq.exceptions.ConnectionNotAllowed):
        vhost = url.path.removeprefix("/") or "/"
        return ConfigError(
            f"The broker {where} keeps {url.user or 'guest'} out of vhost {vhost}: {said}.",
            fix="Make it (`rabbitmqctl add_vhost`) and grant it "
            "(`rabbitmqctl set_permissions -p VHOST USER .* .* .*`).",
        )
    if isinstance(error, ssl.SSLError):
        return ConfigError(
            f"TLS with the broker {where} failed: {said}.",
            fix="Check that the port speaks TLS (5671), and the URL's cafile= and server_name= "
            "(for a certificate that names another host).",
        )
    return Unavailable(f"The broker {address.shown} cannot be reached: {said}.")
