"""Ways into an app: one request each, from inside a client process."""

from __future__ import annotations

import importlib
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from rolekit.config import Config, nearest
from rolekit.errors import ConfigError
from rolekit.load.scenario import Call, Direct, Http, Smtp
from rolekit.observe.tracing import carried

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import ModuleType

    from rolekit.load.scenario import Run
    from rolekit.model.message import Reply
    from rolekit.roles.app import App

_BAD = 400


class Sent(msgspec.Struct, frozen=True):
    """A request that was answered as wanted.

    Attributes:
        id: That the app gave it; empty: none.
        trace: Of the sampled trace that it started; empty: none.
    """

    id: str = ""
    trace: str = ""


class Failure(Exception):
    """A request that was answered otherwise; the text says how, alike for alike ones."""


class Refused(Failure):
    """Nobody listens."""


Send: TypeAlias = Callable[[int], Awaitable[Sent]]


def open_entry(run: Run, config: Config) -> AbstractAsyncContextManager[Send]:
    """Return a block inside which requests can be sent, each by its number."""
    entry = run.scenario.entry
    if isinstance(entry, Http):
        return _http(run, entry)
    if isinstance(entry, Smtp):
        return _smtp(run, entry)
    if isinstance(entry, Direct):
        return _direct(run, entry, config)
    return _call(run, entry)


@asynccontextmanager
async def _http(run: Run, entry: Http) -> AsyncGenerator[Send]:
    # Not httpx: its pool looks at all connections for each request, so that a thousand under
    # way are slow by themselves.
    aiohttp = _aiohttp()
    bodies = _bodies(entry.body_file)
    url, body = Template(entry.url), Template(entry.body)
    headers = {name: Template(value) for name, value in entry.headers.items()}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=run.scenario.timeout_s),
        auto_decompress=False,
    ) as session:

        async def send(number: int) -> Sent:
            names = _names(run, number)
            trace, parent = _traced(run, number)
            sending = session.request(
                entry.method,
                url.safe_substitute(names),
                headers={name: value.safe_substitute(names) for name, value in headers.items()}
                | parent,
                data=bodies[number % len(bodies)]
                if bodies
                else body.safe_substitute(names).encode(),
            )
            try:
                async with sending as answer:
                    content = await answer.read()
            except aiohttp.ClientConnectorError as error:
                raise Refused(f"cannot connect: {error.os_error.strerror or error}") from error
            except TimeoutError as error:
                raise Failure("no answer in time") from error
            except (aiohttp.ClientError, OSError) as error:
                raise Failure(type(error).__name__) from error
            if answer.status >= _BAD:
                raise Failure(f"HTTP {answer.status}")
            return Sent(_id_of(answer.content_type, content), trace)

        yield send


def _aiohttp() -> ModuleType:
    try:
        import aiohttp  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "Sending by HTTP needs aiohttp.", fix="pip install 'rolekit[load]'"
        ) from error
    return aiohttp


class _Named(msgspec.Struct):
    id: str = ""


def _id_of(content_type: str, content: bytes) -> str:
    """Return the id in an answer of rolekit's, such as a receipt."""
    if content_type != "application/json":
        return ""
    try:
        return msgspec.json.decode(content, type=_Named).id
    except msgspec.DecodeError:
        return ""


@asynccontextmanager
async def _smtp(run: Run, entry: Smtp) -> AsyncGenerator[Send]:
    try:
        import aiosmtplib  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "Sending by SMTP needs aiosmtplib.", fix="pip install 'rolekit[mail]'"
        ) from error
    bodies = _bodies(entry.body_file)
    if not bodies:
        raise ConfigError(f"There is no mail in {entry.body_file}.")
    host, _, port = entry.at.rpartition(":")

    async def send(number: int) -> Sent:
        names = _names(run, number)
        client = aiosmtplib.SMTP(
            hostname=host.strip("[]"),
            port=int(port),
            start_tls=False,
            timeout=run.scenario.timeout_s,
        )
        mail = f"X-Load: {run.id}-{number}\r\n".encode() + bodies[number % len(bodies)]
        try:
            async with client:
                refused, reply = await client.sendmail(
                    Template(entry.sender).safe_substitute(names),
                    [Template(rcpt).safe_substitute(names) for rcpt in entry.recipients],
                    mail,
                )
        except aiosmtplib.SMTPConnectError as error:
            raise Refused("cannot connect") from error
        except aiosmtplib.SMTPResponseException as error:
            raise Failure(f"SMTP {error.code}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Failure(type(error).__name__) from error
        if refused:
            raise Failure("recipients refused")
        return Sent(reply.rpartition(" ")[2])

    yield send


@asynccontextmanager
async def _direct(run: Run, entry: Direct, config: Config) -> AsyncGenerator[Send]:
    # Not at the top: the clients of other entries need none of it.
    from rolekit import wiring  # noqa: PLC0415
    from rolekit.errors import RolekitError, TimedOut  # noqa: PLC0415
    from rolekit.roles.named import named_message  # noqa: PLC0415
    from rolekit.supervisor.describe import load  # noqa: PLC0415

    app = cast("App", load(run.app))
    plan = app.plan()
    answer = cast("type[Reply] | None", _answer_type(entry.answer, plan.types))
    body = Template(entry.body)
    there = replace(config, app=run.app, database=run.database, broker=run.broker)
    async with wiring.open_client(app, there) as client:

        async def send(number: int) -> Sent:
            data = body.safe_substitute(_names(run, number)).encode()
            message = named_message(plan, entry.type, data)
            trace, parent = _traced(run, number)
            token = carried.set(parent)
            try:
                if answer is not None:
                    await client.ask(message, answer, timeout_s=run.scenario.timeout_s)
                    return Sent("", trace)
                return Sent((await client.send(message, headers=parent)).id, trace)
            except TimedOut as error:
                raise Failure("no answer in time") from error
            except RolekitError as error:
                raise Failure(type(error).__name__) from error
            finally:
                carried.reset(token)

        yield send


def _answer_type(name: str, types: Mapping[str, type[object]]) -> object:
    if not name:
        return None
    by_name = {cls.__name__: cls for cls in types.values()}
    if name not in by_name:
        raise ConfigError(f"The app has no reply {name}.{nearest(name, by_name)}")
    return by_name[name]


@asynccontextmanager
async def _call(run: Run, entry: Call) -> AsyncGenerator[Send]:
    opened = named(entry.call)(run)
    async with opened as call:

        async def send(number: int) -> Sent:
            try:
                found: object = await call(number)
            except ConnectionRefusedError as error:
                raise Refused("cannot connect") from error
            except TimeoutError as error:
                raise Failure("no answer in time") from error
            except Failure:
                raise
            except Exception as error:  # what is called is not ours
                raise Failure(f"{type(error).__name__}: {error}"[:200]) from error
            return found if isinstance(found, Sent) else Sent(str(found or ""))

        yield send


def named(call: str) -> Callable[..., Any]:
    """Import what "module:function" names.

    Raises:
        ConfigError: It is not there.
    """
    module, _, name = call.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{call} cannot be imported: {error}.",
            fix="Name a function as module:function; modules are found from where you are.",
        ) from error
    return cast("Callable[..., Any]", found)


def _bodies(path: str) -> list[bytes]:
    if not path:
        return []
    found = Path(path)
    files = (
        sorted(file for file in found.iterdir() if file.is_file())
        if found.is_dir()
        else [found]
    )
    return [file.read_bytes() for file in files]


def _names(run: Run, number: int) -> dict[str, str]:
    return {"n": str(number), "run": run.id}


def _traced(run: Run, number: int) -> tuple[str, dict[str, str]]:
    """Return the id of the trace that this request starts, and the header that starts it."""
    share = run.scenario.trace
    # Evenly, not by chance: short runs have their share of traces, too.
    if int((number + 1) * share) == int(number * share):
        return "", {}
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}


def now() -> float:
    """Return the time that all processes of this machine share, in seconds."""
    return time.monotonic()
