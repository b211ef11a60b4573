"""A private RabbitMQ node, its own epmd, and a line into it for virtual hosts.

Each run of a contender gets a virtual host of its own, so that nothing is left over from
the run before. They are made over Erlang's own calls by a helper node that lives as long
as the broker: `rabbitmqctl` starts one each time, which takes longer than many runs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from benchmarks.servers.ports import end, free_port, listens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

COOKIE = "benchmarks"
START_S = 60
PLACES = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
"""Debian's wrapper changes the user and hides the process; the first is the one behind it."""

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
disk_free_limit.absolute = 100MB
log.file.level = warning
"""

CALLS = """\
Node = list_to_atom("{node}"),
Turn = fun Turn() ->
    case io:get_line("") of
        eof -> halt(0);
        {{error, _}} -> halt(0);
        Line ->
            {{ok, Tokens, _}} = erl_scan:string(Line),
            {{ok, Parsed}} = erl_parse:parse_exprs(Tokens),
            {{value, Value, _}} = erl_eval:exprs(Parsed, [{{'Node', Node}}]),
            io:format("~0p~n", [Value]),
            Turn()
    end
end,
Turn().
"""
"""Evaluates one line at a time, with `Node` bound to the broker."""

ADD = (
    'rpc:call(Node, rabbit_vhost, add, [<<"{name}">>, <<"bench">>]), '
    "rpc:call(Node, rabbit_auth_backend_internal, set_permissions, "
    '[<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"bench">>]).'
)
DELETE = 'rpc:call(Node, rabbit_vhost, delete, [<<"{name}">>, <<"bench">>]).'


@dataclass(slots=True)
class Node:
    """A broker that runs.

    Attributes:
        port: Of AMQP.
        version: Of RabbitMQ, and of Erlang.
    """

    port: int
    process: asyncio.subprocess.Process
    calls: asyncio.subprocess.Process
    version: str = ""
    made: int = 0

    @asynccontextmanager
    async def virtual_host(self) -> AsyncGenerator[str]:
        """Make an empty virtual host for the block; give its URL."""
        self.made += 1
        name = f"run{self.made}"
        await self.call(ADD.format(name=name))
        try:
            yield f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"
        finally:
            await self.call(DELETE.format(name=name))

    async def call(self, expression: str) -> str:
        """Evaluate Erlang; return the value as a line of text."""
        assert self.calls.stdin is not None
        assert self.calls.stdout is not None
        self.calls.stdin.write(f"{expression}\n".encode())
        await self.calls.stdin.drain()
        async with asyncio.timeout(60):
            answer = (await self.calls.stdout.readline()).decode().strip()
        if not answer or "badrpc" in answer:
            raise RuntimeError(f"{expression} gave {answer!r}")
        return answer

    def cpu_s(self) -> float:
        """Return the CPU seconds the broker used so far."""
        return float(sum(psutil.Process(self.process.pid).cpu_times()[:2]))


@asynccontextmanager
async def rabbitmq(home: Path) -> AsyncGenerator[Node | None]:
    """Run a node inside the block; None where RabbitMQ is not installed."""
    program = next((found for place in PLACES if (found := shutil.which(place))), None)
    erl, epmd = shutil.which("erl"), shutil.which("epmd")
    if program is None or erl is None or epmd is None:
        yield None
        return
    port, epmd_port = free_port(), free_port()
    name = f"bench{port}@localhost"
    environment = _environment(home, name, port, epmd_port)
    async with AsyncExitStack() as stack:
        names = await _start(
            stack, [epmd, "-port", str(epmd_port), "-address", "127.0.0.1"], environment
        )
        await listens(epmd_port, names, 10)
        broker = await _start(stack, [program], environment, home / "startup.log")
        await listens(port, broker, START_S)
        node = Node(port, broker, await _calls(stack, erl, name, environment))
        node.version = await node.call(
            "{ok, V} = rpc:call(Node, application, get_key, [rabbit, vsn]), "
            "list_to_atom(V ++ [$ | rpc:call(Node, erlang, system_info, [otp_release])])."
        )
        yield node


def _environment(home: Path, name: str, port: int, epmd_port: int) -> dict[str, str]:
    cookie = home / ".erlang.cookie"
    cookie.write_text(COOKIE)
    cookie.chmod(0o400)
    (home / "rabbitmq.conf").write_text(CONFIGURATION.format(port=port))
    (home / "plugins").write_text("[].\n")
    (home / "nothing.conf").write_text("")
    return {
        **os.environ,
        "HOME": str(home),
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "nothing.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        # Schedulers that spin while idle would take the cores from the clients; and nothing
        # of this node is for other machines.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "+sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
        ),
        # So that the process started here becomes the node, and its id is the one to end.
        "RUNNING_UNDER_SYSTEMD": "1",
    }


async def _start(
    stack: AsyncExitStack,
    command: list[str],
    environment: dict[str, str],
    log: Path | None = None,
) -> asyncio.subprocess.Process:
    target = stack.enter_context(log.open("wb")) if log else asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=target,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for the benchmark, which then ends its servers
    )
    stack.push_async_callback(end, process)
    return process


async def _calls(
    stack: AsyncExitStack, erl: str, name: str, environment: dict[str, str]
) -> asyncio.subprocess.Process:
    text = CALLS.format(node=name)
    process = await asyncio.create_subprocess_exec(
        erl, "-noshell", "-hidden", "-sname", f"calls-{name}", "-setcookie", COOKIE,
        "+sbwt", "none", "-eval", text,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    stack.push_async_callback(end, process)
    return process
