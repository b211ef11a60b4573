"""Where the broker is, and what a failed connection means."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

import aio_pika
import aiormq
from yarl import URL

from rolekit.errors import ConfigError, Unavailable
from rolekit.transport.rabbitmq.demux import FrameError

HEARTBEAT_S = 20
PORTS = {"amqp": 5672, "amqps": 5671}

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
        options = {"heartbeat": str(HEARTBEAT_S), **one.query}
        if not options["heartbeat"].isdecimal():
            raise _unreadable("heartbeat= is no number of seconds")
        urls.append(one.with_query(options))
    return Address(tuple(urls), f"{scheme}://{hosts}/{path}")


def _unreadable(why: str) -> ConfigError:
    return ConfigError(
        f"The broker's URL cannot be read: {why}.",
        fix="Write amqp://user:password@host:5672/vhost, several hosts with commas, and / ? # "
        "@ : within user, password or vhost as %2F %3F %23 %40 %3A.",
    )


def explained(error: Exception, address: Address, url: URL) -> Unavailable | ConfigError:
    """Say what a failed connection means, and what to look at."""
    said = str(error) or type(error).__name__
    if url.password:
        said = said.replace(url.password, "***")
    where = f"{url.scheme}://{url.host}:{url.port or PORTS[url.scheme]}"
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
