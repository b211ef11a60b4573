"""The engine, as a launcher sees it: images, containers, and the streams of these."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiodocker
import aiohttp

from rolekit.errors import ConfigError
from rolekit.guest.gate import GATE
from rolekit.guest.hosts import MIB, kept_environment
from rolekit.guest.podman import Podman, is_podman
from rolekit.guest.reach import SCRATCH
from rolekit.guest.starting import IGNORED_S

if TYPE_CHECKING:
    from rolekit.guest.container import Order

NOBODY = "65534:65534"
LABEL = "rolekit."
OPEN_FILES = 1024
OOM_SCORE = 500
ANSWER_S = 60.0
BUILD_S = 1800.0
SAID = 600
OK, NO_SUCH, NO_ENGINE = 200, 404, 900
"""Statuses; the last is aiodocker's own for an engine that does not answer."""
SHELL = "/bin/sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VARIABLES = ("DOCKER_HOST", "CONTAINER_HOST")


def address() -> str:
    """Return where the engine is: as the environment says, or where one usually is.

    Raises:
        ConfigError: It is not a Unix socket, or there is none.
    """
    for variable in VARIABLES:
        if url := os.environ.get(variable):
            if not url.startswith("unix://"):
                raise ConfigError(
                    f"{variable} is {url!r}; a Unix socket is expected, since the streams of "
                    "guests are handed on as open files.",
                    fix=f"For example {variable}=unix:///var/run/docker.sock.",
                )
            return url.removeprefix("unix://")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "/run")
    places = ["/var/run/docker.sock", "/run/podman/podman.sock"]
    places.append(f"{runtime}/podman/podman.sock")
    for place in places:
        if Path(place).is_socket():
            return place
    raise ConfigError(
        f"there is no container engine: no socket at {', '.join(dict.fromkeys(places))}.",
        fix="Start Docker, or Podman's API (systemctl start podman.socket), or say where one "
        "is: DOCKER_HOST=unix:///path.",
    )


class Engine:
    """A container engine.

    Args:
        labels: Put on all that is made, besides role and guest.
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = {f"{LABEL}{name}": value for name, value in labels.items()}
        self._path = address()
        self._client = aiodocker.Docker(
            url="http://localhost",  # the way there is the connector's
            connector=aiohttp.UnixConnector(
                self._path, limit=0
            ),  # one waits for each container
            timeout=aiohttp.ClientTimeout(total=ANSWER_S),
        )
        self._images: dict[str, str] = {}
        self._podman: Podman | None = None
        self._is_known = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._client.connector.close()
        if self._podman is not None:
            self._podman.close()

    def _one(self, container: str) -> Any:  # noqa: ANN401 - its methods take any parameters
        containers: Any = self._client.containers
        return containers.container(container)

    async def image_for(self, order: Order) -> str:
        """Return the image of a guest, built where it is to be.

        Raises:
            ConfigError: There is none, it does not build, or the engine does not answer.
        """
        source = order["build"] or order["image"]
        if source not in self._images:
            with self._explained():
                if order["build"]:
                    self._images[source] = await self._built(order)
                else:
                    self._images[source] = await self._found(order["image"])
        return self._images[source]

    async def _found(self, name: str) -> str:
        try:
            found = await self._client.images.inspect(name)
        except aiodocker.DockerError as error:
            if error.status != NO_SUCH:
                raise
            raise ConfigError(
                f"the engine at {self._path} has no image {name!r}.",
                fix=f"Get it (docker pull {name}), or correct the name.",
            ) from error
        return str(found["Id"])

    async def _built(self, order: Order) -> str:
        folder = order["build"]
        labels = {**self._labels, f"{LABEL}role": order["role"]}
        tag = f"rolekit-guest-{order['role']}-{order['guest']}".lower()
        context = await asyncio.to_thread(_packed, folder)
        said = ""
        try:
            async for line in self._client.images.build(
                fileobj=context,
                encoding="identity",
                tag=tag,
                labels=labels,
                forcerm=True,
                stream=True,
                timeout=BUILD_S,
            ):
                said = (said + str(line.get("stream", "")))[-SAID:]
        except aiodocker.DockerError as error:
            raise ConfigError(
                f"the image of {folder} does not build: {error.message} "
                f"It said: {said.strip()}",
                fix=f"Try it by hand: docker build {folder}.",
            ) from error
        return await self._found(tag)

    async def check(self, order: Order) -> None:
        """See that an image is there, or build it, and that its command is in it.

        Raises:
            ConfigError: It is not; or the engine refuses or does not answer.
        """
        container = await self.create(order)
        try:
            await self._find_command(order, container)
        finally:
            await asyncio.shield(self.remove(container))

    async def _find_command(self, order: Order, container: str) -> None:
        with self._explained():
            about = await self._one(container).show()
            env: list[str] = about["Config"]["Env"] or []
            path = next((one[5:] for one in env if one.startswith("PATH=")), PATH)
            name = order["command"][0]
            places = [name] if "/" in name else [f"{at}/{name}" for at in path.split(":")]
            if not await self._has_any(container, places):
                raise ConfigError(
                    f"the command {name!r} was not found in the image"
                    f"{'' if '/' in name else f' ({path})'}.",
                    fix="Install it there, or name it with its path.",
                )
            needs_shell = order["runs_once"] or order["folders"]
            if needs_shell and not await self._has_any(container, [SHELL]):
                what = "Exec" if order["runs_once"] else "Files"
                raise ConfigError(
                    f"{what} in a Container needs {SHELL} in the image; this one has none.",
                    fix="Use one that has a shell, or another protocol: Lines, Frames.",
                )

    async def _has_any(self, container: str, places: list[str]) -> bool:
        url = f"http://localhost/containers/{container}/archive"
        for place in places:
            async with self._client.session.head(url, params={"path": place}) as answer:
                if answer.status == OK:
                    return True
        return False

    async def create(self, order: Order) -> str:
        """Make a container, which does not run yet; return its id.

        Raises:
            ConfigError: The engine refuses; says why.
        """
        image = await self.image_for(order)
        labels = self._labels | {
            f"{LABEL}role": order["role"],
            f"{LABEL}guest": order["guest"],
        }
        config = _config(order, image, labels)
        with self._explained():
            if not self._is_known:
                if is_podman(await self._client.version()):
                    self._podman = await asyncio.to_thread(Podman)
                self._is_known = True
            if self._podman is not None:
                self._podman.add_to(config["HostConfig"])
            made = await self._client.containers.create(config)
            return made.id

    async def attach(self, container: str) -> socket.socket:
        """Connect to the streams of a container, before it starts.

        Returns:
            What is written goes to its standard input; what comes are frames: which stream
            (1 or 2), three zeros, four bytes of length, and so many bytes.

        Raises:
            ConfigError: The engine does not answer.
        """
        loop = asyncio.get_running_loop()
        stream = socket.socket(socket.AF_UNIX)
        stream.setblocking(False)  # noqa: FBT003 - the only way to say it
        try:
            with self._explained():
                await loop.sock_connect(stream, self._path)
                asked = f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
                await loop.sock_sendall(
                    stream,
                    f"POST {asked} HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\n"
                    "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode(),
                )
                await _answered(stream)
        except BaseException:
            stream.close()
            raise
        return stream

    async def start(self, container: str) -> None:
        """Let a container run.

        Raises:
            ConfigError: The engine cannot start it: its command is not there, say.
        """
        with self._explained():
            await self._one(container).start()

    async def pid(self, container: str) -> int:
        """Return the first process of a container that runs, as the engine counts them.

        Raises:
            ConfigError: The engine does not answer.
        """
        with self._explained():
            return int((await self._one(container).show())["State"]["Pid"])

    async def ended(self, container: str) -> tuple[int, str]:
        """Wait until a container has ended; return its exit status, and why it was killed."""
        try:
            one = self._one(container)
            await one.wait()
            state: dict[str, Any] = (await one.show())["State"]
        except (aiodocker.DockerError, aiohttp.ClientError, OSError):
            return -9, ""  # removed by somebody, or the engine is gone, and its streams with it
        status = int(state["ExitCode"])
        return (128 - status if status > 128 else status), (  # noqa: PLR2004 - as shells say it
            "memory" if state.get("OOMKilled") else ""
        )

    async def kill(self, container: str) -> None:
        """Kill a container."""
        with contextlib.suppress(aiodocker.DockerError, aiohttp.ClientError, OSError):
            await self._one(container).kill()

    async def remove(self, container: str) -> None:
        """Have nothing left of a container, whether it runs or not."""
        with contextlib.suppress(aiodocker.DockerError, aiohttp.ClientError, OSError):
            await self._one(container).delete(force=True, v=True)

    async def made_by_others(self) -> list[tuple[str, dict[str, str]]]:
        """Return all containers of launchers: their ids, and what their labels say."""
        with self._explained():
            some: Any = self._client.containers
            found = await some.list(all=True, filters=f'{{"label": ["{LABEL}lock"]}}')
        said: list[tuple[str, dict[str, str]]] = []
        for one in found:
            labels: dict[str, str] = one["Labels"]
            ours = {
                name.removeprefix(LABEL): value
                for name, value in labels.items()
                if name.startswith(LABEL)
            }
            said.append((one.id, ours))
        return said

    @contextlib.contextmanager
    def _explained(self) -> Any:  # noqa: ANN401 - a generator of nothing
        try:
            yield
        except _NoStreams as error:
            raise ConfigError(
                f"the engine at {self._path} gives no streams of a container: {error}"
            ) from error
        except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
            if isinstance(error, aiodocker.DockerError) and error.status != NO_ENGINE:
                raise ConfigError(
                    f"the engine at {self._path} refused: {error.message.strip()}"
                ) from error
            raise ConfigError(
                f"no container engine answers at {self._path}: {str(error) or 'too late'}.",
                fix="Start Docker, or Podman's API, or say where one is: "
                "DOCKER_HOST=unix:///path. This user must be allowed to open its socket.",
            ) from error


class _NoStreams(Exception):
    """The engine answered, and gives no streams; says why."""


async def _answered(stream: socket.socket) -> None:
    """Read the head of an answer, and no byte of what comes behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await asyncio.get_running_loop().sock_recv(stream, 1)
        if not byte:
            raise ConnectionError(f"no streams: {head[:SAID]!r}")
        head += byte
    if head.split(maxsplit=2)[1] not in {b"101", b"200"}:
        body = await asyncio.get_running_loop().sock_recv(stream, SAID)
        raise _NoStreams(body.decode(errors="backslashreplace").strip() or repr(head[:SAID]))


def _config(order: Order, image: str, labels: dict[str, str]) -> dict[str, Any]:
    """Say all about a container. Nothing of this comes from an instance."""
    memory = order["memory_mb"] * MIB
    command = order["command"]
    if order["runs_once"]:
        command = [SHELL, "-c", GATE, command[0]]
    elif order["folders"]:
        made = f'mkdir {" ".join(order["folders"])} && exec "$0" "$@"'
        command = [SHELL, "-c", made, *command]
    ulimits = [_ulimit("core", 0), _ulimit("nofile", OPEN_FILES)]
    if seconds := order["cpu_s"]:
        ulimits.append(_ulimit("cpu", seconds, seconds + IGNORED_S))
    environment = {"HOME": SCRATCH, "TMPDIR": SCRATCH, **kept_environment(), **order["env"]}
    return {
        "Image": image,
        "Entrypoint": command[:1],
        "Cmd": command[1:],
        "User": NOBODY,
        "WorkingDir": SCRATCH,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Hostname": "guest",
        "Labels": labels,
        "Healthcheck": {"Test": ["NONE"]},
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": order["network"] == "none",
        "HostConfig": {
            "NetworkMode": order["network"],
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Init": True,
            "Memory": memory,
            "MemorySwap": memory,
            "PidsLimit": order["pids"] + 1,  # the first process is the engine's own
            "NanoCpus": int(order["cpus"] * 1e9),
            "Tmpfs": {SCRATCH: f"rw,nosuid,nodev,mode=1777,size={order['scratch_mb']}m"},
            "ShmSize": order["scratch_mb"] * MIB,
            "IpcMode": "private",
            "OomScoreAdj": OOM_SCORE,
            "LogConfig": {"Type": "none", "Config": {}},
            "Ulimits": ulimits,
        },
    }


def _ulimit(name: str, soft: int, hard: int | None = None) -> dict[str, object]:
    return {"Name": name, "Soft": soft, "Hard": soft if hard is None else hard}


def _packed(folder: str) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, arcname=".")
    packed.seek(0)
    return packed
