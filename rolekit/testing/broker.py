"""A RabbitMQ of one's own, for tests to fill, block, stop and kill.

    with PrivateBroker() as broker, broker.vhost() as url:
        ...

It needs RabbitMQ's programs on the machine, not a running RabbitMQ: a node with its own name,
ports, data, log, configuration and cookie is started, and gone at the end. Any number may
live side by side, as root or not. All calls block: from a coroutine, use `asyncio.to_thread`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from rolekit.errors import Unavailable
from rolekit.testing.certificates import make_certificates
from rolekit.testing.erlang import Node, binary, find_rabbitmq
from rolekit.testing.folders import Folder

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from rolekit.testing.certificates import Certificates

Tls = Literal["server", "mutual"]

USER = "rolekit"
HANDSHAKE_S = 10.0
ALARM_S = 15.0
TURN_S = 0.02
MEMORY_LIMIT = 1_500_000_000
DISK_LIMIT = 50_000_000
TOO_MUCH = 10**18
"""Bytes that no disk has, so that any disk is too full."""
QUORUM_TICK_MS = 200
"""How stale the counts of a quorum queue may be; RabbitMQ's own 5 s would slow tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """What the broker says of a queue.

    The counts of a quorum queue may be `QUORUM_TICK_MS` old.

    Attributes:
        type: "classic", "quorum" or "stream".
        ready: Messages that wait for a consumer.
        unacked: Messages that a consumer has and has not settled.
    """

    name: str
    type: str
    arguments: Mapping[str, object]
    ready: int
    unacked: int
    consumers: int


class PrivateBroker:
    """A RabbitMQ node on 127.0.0.1; its ports and data stay through restarts.

    Args:
        settings: Lines for `rabbitmq.conf`, over those that are set here.
        tls: Whether it speaks TLS too; "mutual": to clients with a certificate only.

    Attributes:
        port: Where it speaks AMQP.
        tls_port: Where it speaks AMQP over TLS, if it does.
        certificates: For its clients; None without TLS.
        node_name: What its own commands call it.

    Raises:
        ConfigError: RabbitMQ is not on this machine.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, tls: Tls | None = None
    ) -> None:
        programs = find_rabbitmq()
        self.port, self.tls_port, dist_port, epmd_port = _free_ports(4)
        self.certificates: Certificates | None = None
        self.node_name = f"rolekit-{secrets.token_hex(4)}@localhost"
        self._password = secrets.token_urlsafe(16)
        self._folder = Folder("rolekit-mq-")
        self._base = self._folder.path
        if tls is not None:
            self.certificates = make_certificates(self._base / "tls")
            settings = self._tls_settings(self.certificates, tls) | dict(settings or {})
        self._write_files(settings or {})
        environment = self._environment(dist_port, epmd_port)
        self._node = Node(programs, self._base, environment, epmd_port)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id of the node itself; None while it is not running."""
        return self._node.pid

    def url(self, vhost: str = "/") -> str:
        """Return the AMQP URL of a virtual host, with the user who may do everything."""
        name = urllib.parse.quote(vhost, safe="")
        return f"amqp://{USER}:{self._password}@127.0.0.1:{self.port}/{name}"

    def tls_url(self, vhost: str = "/", host: str = "127.0.0.1", **parameters: str) -> str:
        """Return the same over TLS, as `host` and with parameters such as `cafile`."""
        scheme, _, rest = self.url(vhost).partition("://")
        rest = rest.replace(f"127.0.0.1:{self.port}", f"{host}:{self.tls_port}")
        query = urllib.parse.urlencode(parameters)
        return f"{scheme}s://{rest}{f'?{query}' if query else ''}"

    def start(self) -> None:
        """Start it and wait until it speaks AMQP.

        Raises:
            Unavailable: It does not start; the end of its log is in the text.
        """
        self._node.start()
        _await_amqp(self.port)

    def stop(self) -> None:
        """Stop it as a careful administrator does."""
        self._node.stop()

    def kill9(self) -> None:
        """Kill it as an out-of-memory killer does; its data are as the crash left them.

        That of a quorum queue declared just now may be nothing: see `sync_queues`.
        """
        self._node.kill()

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it for good and remove its data, at once: nothing is left to be written out."""
        self._node.close()
        self._folder.remove()

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` on it, in a second or two; return what that printed.

        Raises:
            Unavailable: The command failed; what it said is in the text.
        """
        return self._node.run("rabbitmqctl", "--node", self.node_name, "--quiet", *arguments)

    def evaluate(self, expressions: str) -> Any:  # noqa: ANN401 (JSON)
        """Evaluate Erlang in the node, in milliseconds; return its value, made JSON of.

        Raises:
            Unavailable: The node is not running, or answered with an error.
        """
        return self._node.ask(expressions)

    @contextlib.contextmanager
    def vhost(self) -> Generator[str]:
        """Make an empty virtual host; remove it at the end, with whoever still uses it.

        Yields:
            Its URL.
        """
        name = f"test-{secrets.token_hex(8)}"
        self.add_vhost(name)
        try:
            yield self.url(name)
        finally:
            if self.pid is not None:
                self.delete_vhost(name)

    def add_vhost(self, name: str) -> None:
        """Make a virtual host in which the broker's own user may do everything."""
        self.evaluate(f"ok = rabbit_vhost:add({binary(name)}, {binary(USER)}), ok.")
        self.set_permissions(name, USER)

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host, with all that is in it, and close its connections."""
        self.evaluate(f"ok = rabbit_vhost:delete({binary(name)}, {binary(USER)}), ok.")

    def add_user(self, name: str, password: str) -> None:
        """Make a user, who may do nothing yet."""
        self.evaluate(
            "ok = rabbit_auth_backend_internal:add_user("
            f"{binary(name)}, {binary(password)}, {binary(USER)}), ok."
        )

    def set_permissions(
        self, vhost: str, user: str, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Say which names a user may declare, publish to and read from: regular expressions."""
        texts = (user, vhost, configure, write, read, USER)
        arguments = ", ".join(binary(text) for text in texts)
        self.evaluate(f"ok = rabbit_auth_backend_internal:set_permissions({arguments}), ok.")

    def list_queues(self, vhost: str = "/") -> list[QueueState]:
        """List the queues of a virtual host, in the order of their names."""
        found: list[dict[str, Any]] = self.evaluate(f"""
            Keys = [name, type, arguments, messages_ready, messages_unacknowledged, consumers],
            Plain = fun
                (name, {{resource, _, queue, Name}}) -> Name;
                (arguments, Table) -> maps:from_list([{{K, V}} || {{K, _, V}} <- Table]);
                (type, rabbit_classic_queue) -> <<"classic">>;
                (type, rabbit_quorum_queue) -> <<"quorum">>;
                (type, rabbit_stream_queue) -> <<"stream">>;
                (_, Count) when is_integer(Count) -> Count;
                (type, Other) -> Other;
                (_, _) -> 0
            end,
            [maps:from_list([{{K, Plain(K, V)}} || {{K, V}} <- Info])
             || Info <- rabbit_amqqueue:info_all({binary(vhost)}, Keys)].""")
        states = [
            QueueState(
                name=queue["name"],
                type=queue["type"],
                arguments=queue["arguments"],
                ready=queue["messages_ready"],
                unacked=queue["messages_unacknowledged"],
                consumers=queue["consumers"],
            )
            for queue in found
        ]
        return sorted(states, key=lambda state: state.name)

    def sync_queues(self) -> None:
        """Let the broker write down now which quorum queues it has.

        Left alone it does so within a second or so (its tables are flushed late); killed
        before, it comes back with the queue empty, without a leader, and deaf for ever,
        confirmed messages or not. Tests that kill it soon after a declaration call this.

        Source: rabbitmq-server issue 15725; measured on 3.10.8: lost after 0 s, kept after 1 s.
        """
        self.evaluate("[dets:sync(Table) || Table <- dets:all()], ok.")

    def delete_queue(self, name: str, vhost: str = "/") -> None:
        """Delete a queue, whoever uses it: its consumers are told by a Basic.Cancel."""
        self.evaluate(f"""
            Name = rabbit_misc:r({binary(vhost)}, queue, {binary(name)}),
            {{ok, Queue}} = rabbit_amqqueue:lookup(Name),
            {{ok, _}} = rabbit_amqqueue:delete(Queue, false, false, {binary(USER)}),
            ok.""")

    def close_all_connections(self, reason: str = "closed by a test") -> int:
        """Close all AMQP connections with 320 CONNECTION_FORCED; return how many they were."""
        closed: int = self.evaluate(f"""
            Pids = rabbit_networking:connections(),
            [rabbit_networking:close_connection(Pid, {binary(reason)}) || Pid <- Pids],
            length(Pids).""")
        return closed

    def set_disk_alarm(self, *, is_on: bool) -> None:
        """Make the disk too full, or not; return when the alarm is up, or gone."""
        limit = TOO_MUCH if is_on else DISK_LIMIT
        self.evaluate(f"ok = rabbit_disk_monitor:set_disk_free_limit({limit}), ok.")
        self._await_alarm("disk", is_on=is_on)

    def set_memory_alarm(self, *, is_on: bool) -> None:
        """Make the memory too little, or not; return when the alarm is up, or gone."""
        limit = 1 if is_on else MEMORY_LIMIT
        self.evaluate(
            f"vm_memory_monitor:set_vm_memory_high_watermark({{absolute, {limit}}}), ok."
        )
        self._await_alarm("memory", is_on=is_on)

    def _await_alarm(self, source: str, *, is_on: bool) -> None:
        deadline_s = time.monotonic() + ALARM_S
        alarms = "[Source || {{resource_limit, Source, _}, _} <- rabbit_alarm:get_alarms()]."
        while (source in self.evaluate(alarms)) != is_on:
            if time.monotonic() > deadline_s:
                raise Unavailable(f"The {source} alarm did not change in {ALARM_S:g} s.")
            time.sleep(TURN_S)

    def _tls_settings(self, certificates: Certificates, tls: Tls) -> dict[str, str]:
        is_mutual = tls == "mutual"
        return {
            "listeners.ssl.local": f"127.0.0.1:{self.tls_port}",
            "ssl_options.cacertfile": str(certificates.authority),
            "ssl_options.certfile": str(certificates.server),
            "ssl_options.keyfile": str(certificates.server_key),
            "ssl_options.verify": "verify_peer" if is_mutual else "verify_none",
            "ssl_options.fail_if_no_peer_cert": "true" if is_mutual else "false",
        }

    def _write_files(self, settings: Mapping[str, str]) -> None:
        for directory in ("home", "data", "log", "conf.d"):
            (self._base / directory).mkdir()
        cookie = self._base / "home" / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        conf = {
            "listeners.tcp.local": f"127.0.0.1:{self.port}",
            "default_user": USER,
            "default_pass": self._password,
            "loopback_users": "none",
            "log.console": "false",
            "log.file": "node.log",
            "disk_free_limit.absolute": str(DISK_LIMIT),
            "vm_memory_high_watermark.absolute": str(MEMORY_LIMIT),
            **settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in conf.items())
        (self._base / "rabbitmq.conf").write_text(lines)
        (self._base / "advanced.config").write_text(
            f"[{{rabbit, [{{quorum_tick_interval, {QUORUM_TICK_MS}}}]}}].\n"
        )
        (self._base / "enabled_plugins").write_text("[].\n")
        (self._base / "env.conf").touch()

    def _environment(self, dist_port: int, epmd_port: int) -> dict[str, str]:
        """Build all of the environment: nothing of the machine's own RabbitMQ may leak in."""
        base = self._base
        local = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "ERL_AFLAGS": "-start_epmd false",  # it has one, which is not to go astray
            "HOME": str(base / "home"),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_CTL_DIST_PORT_MIN": "35672",
            "RABBITMQ_CTL_DIST_PORT_MAX": "45672",
            "RABBITMQ_CTL_ERL_ARGS": local,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 2:2 +sbwt none {local}",
            "RABBITMQ_ALLOW_INPUT": "1",  # the script then becomes Erlang, and input is read
            "RABBITMQ_CONF_ENV_FILE": str(base / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(base / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(base / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(base / "data"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
        }


def _free_ports(count: int) -> list[int]:
    """Return TCP ports of 127.0.0.1 that nobody uses now."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
        return ports


def _await_amqp(port: int) -> None:
    """Return once a Connection.Start comes back: the listener is the last thing to be up."""
    deadline_s = time.monotonic() + HANDSHAKE_S
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=HANDSHAKE_S) as peer,
        ):
            peer.sendall(b"AMQP\x00\x00\x09\x01")
            if peer.recv(1) == b"\x01":
                return
        if time.monotonic() > deadline_s:
            raise Unavailable(f"RabbitMQ does not speak AMQP on port {port}.")
        time.sleep(TURN_S)
