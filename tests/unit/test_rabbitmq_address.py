"""Where the broker is: URLs that are read, and sentences that never show a password."""

from __future__ import annotations

import ssl
import traceback

import aiormq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.transport.rabbitmq.address import explained, parse_address

SECRET = "hunter2"  # noqa: S105 - of no broker
URL = f"amqp://ann:{SECRET}@one:5672,two/shop?heartbeat=9"

# -- what is read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("amqp://one", [("one", None)]),
        ("amqp://one/", [("one", None)]),
        ("amqps://one:5671/shop", [("one", 5671)]),
        ("amqp://u:p@one:1,two:2/v", [("one", 1), ("two", 2)]),
        ("amqp://u:p%40%2F@one,two", [("one", None), ("two", None)]),
        ("amqp://[::1]:5672,[fe80::1]/v", [("::1", 5672), ("fe80::1", None)]),
        ("amqp://10.0.0.1,10.0.0.2:9/v", [("10.0.0.1", None), ("10.0.0.2", 9)]),
    ],
)
def test_one_host_or_several_are_read(url: str, hosts: list[tuple[str, int | None]]) -> None:
    urls = parse_address(url).urls

    assert [(one.host, one.port) for one in urls] == hosts
    assert len({(one.scheme, one.user, one.password, one.path) for one in urls}) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["", "?heartbeat=9"])
@pytest.mark.parametrize(
    ("path", "vhost"),
    [("", "/"), ("/", "/"), ("/shop", "shop"), ("/%2F", "/"), ("/a%2Fb", "a/b"),
     ("/%2Fa%2F", "/a/")],
)  # fmt: skip
async def test_a_vhost_is_what_aiormq_makes_of_the_path(
    path: str, vhost: str, query: str
) -> None:
    (url,) = parse_address(f"amqp://one{path}{query}").urls

    assert aiormq.Connection(url).vhost == vhost


def test_user_and_password_are_decoded() -> None:
    (url,) = parse_address("amqp://an%40n:p%2Fw%3A%3F@one").urls

    assert (url.user, url.password) == ("an@n", "p/w:?")


def test_a_heartbeat_is_set_unless_the_url_has_one() -> None:
    with_one, without = parse_address("amqp://one?heartbeat=9"), parse_address("amqp://one")

    assert with_one.urls[0].query["heartbeat"] == "9"
    assert without.urls[0].query["heartbeat"] == "20"


@pytest.mark.parametrize("slash", ["", "/", "/shop"])
def test_every_host_gets_every_parameter(slash: str) -> None:
    query = (
        "cafile=/etc/ca.pem&certfile=/etc/c.pem&keyfile=k@y&server_name=rabbit&no_verify_ssl=0"
    )
    urls = parse_address(f"amqps://one,two{slash}?{query}").urls

    for url in urls:
        assert dict(url.query) == {
            "heartbeat": "20", "cafile": "/etc/ca.pem", "certfile": "/etc/c.pem",
            "keyfile": "k@y", "server_name": "rabbit", "no_verify_ssl": "0",
        }  # fmt: skip


@pytest.mark.parametrize("slash", ["", "/", "/shop"])
def test_what_is_shown_has_hosts_and_vhost_and_no_more(slash: str) -> None:
    address = parse_address(f"amqp://ann:{SECRET}@one:5672,two{slash}?heartbeat=9")

    assert address.shown == f"amqp://one:5672,two{slash or '/'}"


# -- what is not ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "does not begin"),
        ("one:5672", "does not begin"),
        ("http://one", "does not begin"),
        ("amqp:/one", "does not begin"),
        ("amqp://", "host 1 "),
        ("amqp:///shop", "host 1 "),
        ("amqp://u:p@/shop", "host 1 "),
        ("amqp://one,,three", "host 2 "),
        ("amqp://one,two:port", "host 2 "),
        ("amqp://one:99999", "host 1 "),
        ("amqp://one:0", "host 1 "),
        ("amqp://[::1", "host 1 "),
        ("amqp://one?heartbeat=soon", "heartbeat"),
        ("amqp://one?heartbeat=-1", "heartbeat"),
        ("amqp://one?heartbeat=", "heartbeat"),
        ("amqp://u:a/b@one", "before the host"),
        ("amqp://u:a?b@one", "before the host"),
        ("amqp://u:a#b@one", "before the host"),
    ],
)
def test_a_bad_url_is_refused_with_a_reason(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse_address(url)

    assert "amqp://user:password@host:5672/vhost" in caught.value.fix


PASSWORDS = st.text("ab/?#@:%,[] \\&=1", max_size=6).map(lambda it: f"s3cr{it}et9")
WAYS = st.sampled_from(["amqp", "amqps", "http"])
HOSTS = st.sampled_from(["one", "one:5672,two", "", "one:port", "[::1", "one,,two"])
PATHS = st.sampled_from(["", "/", "/shop", "/shop?heartbeat=9", "?heartbeat=x", "/%2F"])


@settings(
    max_examples=400,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining is slow
)
@given(WAYS, PASSWORDS, HOSTS, PATHS)
def test_no_sentence_shows_any_part_of_a_password(
    way: str, password: str, hosts: str, path: str
) -> None:
    try:
        address = parse_address(f"{way}://ann:{password}@{hosts}{path}")
    except ConfigError as error:
        said = "".join(traceback.format_exception(error, chain=True))
    else:
        said = f"{address} {address.shown}"
    assert "s3cr" not in said
    assert "et9" not in said


# -- what a failure means -------------------------------------------------------------------


FAILURES: list[tuple[Exception, type[RolekitError], list[str]]] = [
    (OSError(111, "Connection refused"), Unavailable, ["amqp://one:5672,two/shop", "refused"]),
    (TimeoutError(), Unavailable, ["TimeoutError"]),
    (RuntimeError(f"amqp://ann:{SECRET}@one closed"), Unavailable, ["***"]),
    (aiormq.exceptions.ProbableAuthenticationError("ACCESS_REFUSED"), ConfigError,
     ["amqp://one:5672 refuses user ann", "rabbitmqctl list_users"]),
    (aiormq.exceptions.AuthenticationError("EXTERNAL", ["PLAIN"]), ConfigError,
     ["refuses user ann"]),
    (aiormq.exceptions.ConnectionNotAllowed("NOT_ALLOWED"), ConfigError,
     ["does not let user ann into vhost shop", "add_vhost"]),
    (ssl.SSLCertVerificationError("self-signed"), ConfigError, ["not trusted", "cafile="]),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind", "words"), FAILURES, ids=lambda it: type(it).__name__)
def test_a_failed_connection_is_explained(
    error: Exception, kind: type[RolekitError], words: list[str]
) -> None:
    address = parse_address(URL)

    told = explained(error, address, address.urls[0])

    assert type(told) is kind
    for word in words:
        assert word in str(told)
    assert SECRET not in str(told)


@pytest.mark.parametrize(("scheme", "port"), [("amqp", 5672), ("amqps", 5671)])
def test_a_port_that_is_not_named_is_the_usual_one(scheme: str, port: int) -> None:
    address = parse_address(f"{scheme}://one/a%2Fb")
    refused = aiormq.exceptions.ConnectionNotAllowed("NOT_ALLOWED")

    told = explained(refused, address, address.urls[0])

    assert f"{scheme}://one:{port} does not let user guest into vhost a/b" in str(told)
