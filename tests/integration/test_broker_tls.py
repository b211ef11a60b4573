"""TLS to the broker, and credentials: what works, and the one sentence where it does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

import pytest

from rolekit.cli.main import run
from rolekit.errors import RolekitError
from rolekit.model.envelope import Packet
from rolekit.testing.broker import PrivateBroker
from rolekit.testing.certificates import Certificates, make_certificates
from rolekit.testing.faults import Proxy
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.transport.rabbitmq.address import UrlFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]

APP = "tests.process.bad_input_app:app"


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateBroker]:
    with PrivateBroker(tls="server") as broker:
        yield broker


@pytest.fixture(scope="module")
def mutual() -> Iterator[PrivateBroker]:
    with PrivateBroker(tls="mutual") as broker:
        yield broker


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of an authority that the broker has nothing to do with."""
    return make_certificates(tmp_path_factory.mktemp("strangers"))


def files_of(broker: PrivateBroker) -> Certificates:
    assert broker.certificates is not None
    return broker.certificates


Rotating: TypeAlias = "tuple[UrlFile, Callable[[], None]]"
Migrate: TypeAlias = "Callable[[str], tuple[int, str]]"


@pytest.fixture
def migrate(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Migrate:
    """Run `rolekit migrate` with a broker; return its exit code and what it said."""
    monkeypatch.setenv("ROLEKIT_DATABASE", database_url)
    monkeypatch.setenv("ROLEKIT_HOME", str(tmp_path))
    monkeypatch.delenv("ROLEKIT_BROKER_FILE", raising=False)

    def migrate(url: str) -> tuple[int, str]:
        monkeypatch.setenv("ROLEKIT_BROKER", url)
        code = run(["migrate", "--app", APP, "--wait", "0"])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return code, said

    return migrate


def query(**files: object) -> dict[str, str]:
    return {name: str(file) for name, file in files.items()}


def test_a_broker_is_trusted_by_its_authority(broker: PrivateBroker, migrate: Migrate) -> None:
    url = broker.tls_url(**query(cafile=files_of(broker).authority))

    assert migrate(url) == (0, "")
    assert migrate(url.replace("127.0.0.1", "localhost")) == (0, "")


def test_a_client_certificate_is_shown_where_the_broker_wants_one(
    mutual: PrivateBroker, migrate: Migrate
) -> None:
    files = files_of(mutual)
    trusting = query(cafile=files.authority)
    shown = query(certfile=files.client, keyfile=files.client_key)

    assert migrate(mutual.tls_url(**trusting, **shown)) == (0, "")
    code, said = migrate(mutual.tls_url(**trusting))
    assert code == 2
    assert "it may want a certificate: certfile=, keyfile=" in said


def test_server_name_is_looked_for_instead_of_the_host(
    broker: PrivateBroker, migrate: Migrate
) -> None:
    cafile = str(files_of(broker).authority)

    assert migrate(broker.tls_url(cafile=cafile, server_name="localhost")) == (0, "")
    code, said = migrate(broker.tls_url(cafile=cafile, server_name="elsewhere"))
    assert code == 2
    assert "is for another host" in said
    assert "'elsewhere'" in said
    assert "server_name=" in said


def wrong_authority(broker: PrivateBroker, strangers: Certificates) -> str:
    return broker.tls_url(**query(cafile=strangers.authority))


def no_authority(broker: PrivateBroker, _: Certificates) -> str:
    return broker.tls_url()


def missing_file(broker: PrivateBroker, _: Certificates) -> str:
    return broker.tls_url(cafile="/nowhere/ca.pem")


def no_certificate(broker: PrivateBroker, _: Certificates) -> str:
    return broker.tls_url(cafile=__file__)


def keys_of_two(broker: PrivateBroker, strangers: Certificates) -> str:
    return broker.tls_url(
        **query(
            cafile=files_of(broker).authority,
            certfile=files_of(broker).client,
            keyfile=strangers.client_key,
        )
    )


def tls_to_plain(broker: PrivateBroker, _: Certificates) -> str:
    url = broker.tls_url(**query(cafile=files_of(broker).authority))
    return url.replace(str(broker.tls_port), str(broker.port))


def plain_to_tls(broker: PrivateBroker, _: Certificates) -> str:
    return broker.url().replace(str(broker.port), str(broker.tls_port))


def wrong_password(broker: PrivateBroker, _: Certificates) -> str:
    return broker.url().replace("@", "x@")


def missing_vhost(broker: PrivateBroker, _: Certificates) -> str:
    return broker.url("nowhere")


def forbidden_vhost(broker: PrivateBroker, _: Certificates) -> str:
    broker.add_user("stranger", "s3cret")
    return f"amqp://stranger:s3cret@127.0.0.1:{broker.port}/"


def heartbeat_out_of_range(broker: PrivateBroker, _: Certificates) -> str:
    return broker.url() + "?heartbeat=70000"


def frame_max_out_of_range(broker: PrivateBroker, _: Certificates) -> str:
    return broker.url() + "?frame_max=100"


def misspelt_parameter(broker: PrivateBroker, _: Certificates) -> str:
    return broker.tls_url(cafiel="x")


def port_that_is_no_number(broker: PrivateBroker, _: Certificates) -> str:
    return broker.url().replace(str(broker.port), "amqp")


@pytest.mark.parametrize(
    ("url_of", "sentences"),
    [
        (wrong_authority, ("is not trusted", "cafile=")),
        (no_authority, ("is not trusted", "cafile=")),
        (missing_file, ("cannot be read (cafile=/nowhere/ca.pem)",)),
        (no_certificate, ("NO_CERTIFICATE_OR_CRL_FOUND",)),
        (keys_of_two, ("KEY_VALUES_MISMATCH", "keyfile=")),
        (tls_to_plain, ("does not speak TLS", "amqp://")),
        (plain_to_tls, ("it may speak TLS only: amqps://",)),
        (wrong_password, ("refuses user rolekit", "list_users")),
        (missing_vhost, ("out of vhost nowhere", "add_vhost nowhere")),
        (forbidden_vhost, ("keeps stranger out of vhost /", "set_permissions -p /")),
        (heartbeat_out_of_range, ("heartbeat must be 0 to 65534 seconds",)),
        (frame_max_out_of_range, ("frame_max must be 4096 to 1048576 bytes",)),
        (misspelt_parameter, ("no parameter cafiel", "Did you mean cafile?")),
        (port_that_is_no_number, ("The broker's URL cannot be read",)),
    ],
)
def test_what_is_wrong_with_a_connection_is_said_in_a_sentence_without_the_password(
    url_of: Callable[[PrivateBroker, Certificates], str], sentences: tuple[str, ...],
    broker: PrivateBroker, strangers: Certificates, migrate: Migrate,
) -> None:  # fmt: skip
    url = url_of(broker, strangers)

    code, said = migrate(url)

    password = url.partition("@")[0].rpartition(":")[2]
    assert code == 2
    assert password not in said
    assert len(said.splitlines()) <= 2
    for sentence in sentences:
        assert sentence in said


def test_a_broker_with_larger_frames_than_can_be_taken_is_refused(
    broker: PrivateBroker, migrate: Migrate
) -> None:
    broker.evaluate("application:set_env(rabbit, frame_max, 2097152), ok.")

    code, said = migrate(broker.url())

    broker.evaluate("application:set_env(rabbit, frame_max, 131072), ok.")
    assert code == 2
    assert "frame_max is 2097152; at most 1048576 bytes" in said


@pytest.mark.anyio
async def test_frame_max_in_the_url_bounds_the_frames_that_are_written(
    broker: PrivateBroker,
) -> None:
    async with Proxy("127.0.0.1", broker.port) as proxy:
        transport = RabbitTransport(proxy.url(broker.url()) + "?frame_max=4096", app="frames")
        try:
            await transport.start()
            await transport.declare(["~dead"])
            long = Packet(queue="~dead", id=uuid4().hex, head=b"", body=b"x" * 10_000)
            await transport.publish([long])
        finally:
            await transport.stop()

        assert proxy.to_server.frames["body"] == 3


# -- passwords that change -------------------------------------------------------------------


@pytest.fixture
def rotating(
    broker: PrivateBroker, tmp_path: Path
) -> Iterator[tuple[UrlFile, Callable[[], None]]]:
    """A file with a URL, and what gives its user another password and writes that into it."""
    broker.add_user("kate", "before")
    broker.set_permissions("/", "kate")
    path = tmp_path / "broker"

    def url(password: str) -> str:
        return f"amqp://kate:{password}@127.0.0.1:{broker.port}/"

    def rotate() -> None:
        broker.ctl("change_password", "kate", "after")
        path.write_text(url("after") + "\n")

    path.write_text(url("before"))
    yield UrlFile(url("before"), path), rotate
    broker.ctl("delete_user", "kate")


def packet() -> Packet:
    return Packet(queue="~dead", id=uuid4().hex, head=b"", body=b"")


@pytest.mark.anyio
@pytest.mark.timeout(60)
async def test_a_password_that_changed_is_read_from_its_file_at_the_next_connection(
    broker: PrivateBroker, rotating: Rotating
) -> None:
    file, rotate = rotating
    transport = RabbitTransport(file, app="kate")
    late = RabbitTransport(file, app="kate")  # its URL is old when it first connects
    try:
        await transport.start()
        await transport.declare(["~dead"])
        await transport.publish([packet()])

        await asyncio.to_thread(rotate)
        await asyncio.to_thread(broker.close_all_connections)
        while True:
            try:
                await transport.publish([packet()])
            except RolekitError:
                await asyncio.sleep(0.02)  # the connection may not have been lost yet
            else:
                break
        await late.start()

        assert (await late.depths(["~dead"]))["~dead"].waiting >= 2
    finally:
        await transport.stop()
        await late.stop()


@pytest.mark.anyio
async def test_while_the_file_cannot_be_used_the_url_from_before_is(
    broker: PrivateBroker, rotating: Rotating
) -> None:
    file, _ = rotating
    for spoil in (lambda: file.path.write_text("no url"), file.path.unlink):
        await asyncio.to_thread(spoil)
        transport = RabbitTransport(file, app="kate")
        try:
            await transport.start()
        finally:
            await transport.stop()


def test_a_broker_given_by_option_is_not_replaced_by_the_file(
    broker: PrivateBroker,
    rotating: Rotating,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, _ = rotating
    monkeypatch.setenv("ROLEKIT_DATABASE", database_url)
    monkeypatch.setenv("ROLEKIT_BROKER_FILE", str(file.path))
    file.path.write_text(f"amqp://kate:wrong@127.0.0.1:{broker.port}/")
    right = f"broker={broker.url()}"

    by_file = run(["migrate", "--app", APP, "--wait", "0"])
    by_option = run(["migrate", "--app", APP, "--wait", "0", "--set", right])

    assert (by_file, by_option) == (2, 0)
    assert "refuses user kate" in capsys.readouterr().err
