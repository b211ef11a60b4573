"""The process of a private RabbitMQ node, and a line to it that answers in milliseconds.

`rabbitmqctl` starts an Erlang of its own for each command, which takes a second or two. So
the node is started with a loop on its standard input that evaluates one line at a time and
answers in JSON. The same pipe ties the node to its owner: when the owner is gone, however
that happened, the node reads the end of its input, removes its directory and halts.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rolekit.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

START_S = 60.0
"""How long a start may take; about 4 s on an idle machine."""
STOP_S = 30.0
ANSWER_S = 30.0
TAIL_LINES = 12
HOW_TO_GET_IT = (
    "Install RabbitMQ 3.10 or newer (on Debian, as root: apt-get install rabbitmq-server); "
    "it need not run, since a node of its own is started."
)

_PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin", "/opt/rabbitmq/sbin")
_MARK = "rolekit-node "
_LISTEN = """
Answer = fun(Word, Bytes) ->
    io:put_chars(["\\n", "{mark}", Word, " ", base64:encode(iolist_to_binary(Bytes)), "\\n"])
end,
spawn(fun() ->
    Loop = fun Loop() -> case {{io:get_line(""), init:get_status()}} of
        {{Line, _}} when is_list(Line) ->
            try
                {{ok, Tokens, _}} = erl_scan:string(Line),
                {{ok, Parsed}} = erl_parse:parse_exprs(Tokens),
                {{value, Value, _}} = erl_eval:exprs(Parsed, []),
                Answer("ok", rabbit_json:encode(Value))
            catch _:Why -> Answer("error", io_lib:format("~0p", [Why])) end,
            Loop();
        {{_, {{stopping, _}}}} -> ok;
        _ ->
            catch file:del_dir_r({base}),
            catch begin
                {{ok, Epmd}} = gen_tcp:connect({{127,0,0,1}}, {epmd}, []),
                gen_tcp:send(Epmd, <<0, 1, $k>>),
                gen_tcp:close(Epmd)
            end,
            erlang:halt(0, [{{flush, false}}])
    end end,
    Loop()
end),
case rabbit_boot_state:wait_for(ready, {start_ms}) of
    ok -> Answer("ok", "true");
    Failed -> Answer("error", io_lib:format("~0p", [Failed]))
end.
"""


def find_rabbitmq() -> Path:
    """Return the directory with RabbitMQ's own `rabbitmq-server` and `rabbitmqctl`.

    Raises:
        ConfigError: It is not on this machine.
    """
    on_path = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    places = [Path(place) for place in _PLACES]
    if on_path is not None:
        places[:0] = [Path(on_path).parent, Path(on_path).resolve().parent]
    for place in places:
        # Debian's commands on PATH are wrappers that change the user; they lie elsewhere.
        if (place / "rabbitmq-env").exists() and (place / "rabbitmq-server").exists():
            return place
    raise ConfigError("RabbitMQ is not on this machine.", fix=HOW_TO_GET_IT)


def find_epmd() -> Path:
    """Return Erlang's port mapper, on PATH or beside the runtime.

    Raises:
        ConfigError: It is not on this machine.
    """
    on_path = shutil.which("epmd")
    if on_path is not None:
        return Path(on_path)
    erl = shutil.which("erl")
    root = Path(erl).resolve().parent.parent if erl else Path("/usr/lib/erlang")
    for found in sorted(root.glob("erts-*/bin/epmd")):
        return found
    raise ConfigError("Erlang's epmd is not on this machine.", fix=HOW_TO_GET_IT)


def binary(text: str) -> str:
    """Write a text as an Erlang binary, whatever is in it."""
    return f"<<{','.join(str(byte) for byte in text.encode())}>>"


class Node:
    """A RabbitMQ process that this process owns, and the port mapper it needs.

    The start script is made to become the Erlang machine itself, so the process held here is
    the one that serves; no process is ever looked up.

    Args:
        programs: What `find_rabbitmq` found.
        base: A directory of the node's own; it is removed when the owner dies.
        environment: All of its environment.
        epmd_port: A free port of 127.0.0.1.
    """

    def __init__(
        self, programs: Path, base: Path, environment: Mapping[str, str], epmd_port: int
    ) -> None:
        self._programs = programs
        self._base = base
        self._environment = dict(environment)
        self._epmd_port = epmd_port
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = b""

    @property
    def pid(self) -> int | None:
        """The Erlang machine's process id; None while it is not running."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start the node; return when it serves.

        Raises:
            Unavailable: It did not; the end of its log is in the text.
        """
        if self._process is not None:
            raise RuntimeError("the node was started already")
        deadline_s = time.monotonic() + START_S
        self._start_epmd()
        listen = _LISTEN.format(
            mark=_MARK,
            base=binary(str(self._base)),
            epmd=self._epmd_port,
            start_ms=int(START_S * 1000),
        )
        with (self._base / "server.err").open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 (RabbitMQ's own program)
                [self._programs / "rabbitmq-server", "-noshell", "-eval", listen],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self._base,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the owner, who then stops the node
            )
        self._heard = b""
        try:
            self._answer(deadline_s)
        except Unavailable as error:
            self.kill()
            raise Unavailable(
                f"RabbitMQ did not start in {self._base}: {error.what}\n{self._log_tail()}"
            ) from error

    def stop(self) -> None:
        """Stop the node as an administrator does: queues and messages are written out."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self.kill()

    def kill(self) -> None:
        """Kill the node as an out-of-memory killer does. Nothing, when it is not running."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait(STOP_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        """Kill the node, and its port mapper with it."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(STOP_S)
            self._epmd = None

    def ask(self, expressions: str, timeout_s: float = ANSWER_S) -> Any:  # noqa: ANN401 (JSON)
        """Evaluate Erlang in the node; return what `rabbit_json` makes of the value.

        Args:
            expressions: Expressions with a full stop at the end; a line end is a space.
            timeout_s: How long that may take.

        Raises:
            Unavailable: The node is not running, did not answer, or answered with an error.
        """
        if self._process is None or self._process.stdin is None:
            raise Unavailable("The node is not running.", fix="Start it first.")
        line = " ".join(expressions.split()) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Unavailable("The node has ended.") from error
        return self._answer(time.monotonic() + timeout_s)

    def run(self, program: str, *arguments: str, timeout_s: float = STOP_S) -> str:
        """Run one of RabbitMQ's own commands on the node; return what it printed.

        Raises:
            Unavailable: It failed; what it said is in the text.
        """
        done = subprocess.run(  # noqa: S603 (RabbitMQ's own program)
            [self._programs / program, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self._base,
            env=self._environment,
            timeout=timeout_s,
            text=True,
        )
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip()
            raise Unavailable(f"{program} {' '.join(arguments)} failed: {said}")
        return done.stdout

    def _start_epmd(self) -> None:
        if self._epmd is not None:
            return
        with (self._base / "epmd.log").open("ab") as log:
            self._epmd = subprocess.Popen(  # noqa: S603 (Erlang's own program)
                [
                    *(find_epmd(), "-port", str(self._epmd_port), "-address", "127.0.0.1"),
                    "-relaxed_command_check",  # so that an orphaned node may end it
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._base,
                env=self._environment,
                start_new_session=True,
            )

    def _answer(self, deadline_s: float) -> Any:  # noqa: ANN401 (JSON)
        while True:
            word, _, payload = self._line(deadline_s).partition(_MARK)[2].partition(" ")
            if word == "ok":
                return msgspec.json.decode(base64.b64decode(payload))
            if word == "error":
                why = base64.b64decode(payload).decode(errors="replace")
                raise Unavailable(f"The node answered: {why}")

    def _line(self, deadline_s: float) -> str:
        """Read the next line that the node prints."""
        if self._process is None or self._process.stdout is None:
            raise Unavailable("The node is not running.")
        source = self._process.stdout.fileno()
        while b"\n" not in self._heard:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([source], [], [], left_s)[0]:
                raise Unavailable("The node did not answer in time.")
            more = os.read(source, 65536)
            if not more:
                raise Unavailable("The node has ended.")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode(errors="replace")

    def _log_tail(self) -> str:
        lines: list[str] = []
        for log in (self._base / "log" / "node.log", self._base / "server.err"):
            if log.exists():
                lines += log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines)
