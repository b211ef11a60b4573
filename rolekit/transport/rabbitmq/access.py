"""What a user may do on the broker: asked at the start, and said as the grant that lacks.

    configure   declare queues: who runs `rolekit migrate` or `rolekit topology apply`
    write       publish: to the default exchange, which permissions call amq.default
    read        consume from queues

Nobody needs more than the app's own names. Who only runs roles needs no configure, once the
queues are there.

Source: RELIABILITY 9 T3.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import aiormq

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from rolekit.transport.rabbitmq.session import Session

Right = Literal["configure", "write", "read"]

PROBE_S = 3.0
_REFUSED = re.compile(
    r"(?:(?P<right>configure|write|read) )?access to (?P<what>\w+) '(?P<name>.*?)' in"
    r" vhost '(?P<vhost>.*?)' refused for user '(?P<user>.*?)'"
)
_TO: dict[Right, str] = {
    "configure": "declare queue",
    "write": "publish, which needs exchange",
    "read": "consume from queue",
}


def refusal(error: Exception, right: Right, name: str) -> ConfigError:
    """Say what the broker does not let this user do, and the command that allows it.

    Args:
        error: What it said.
        right: What lacks, if the broker does not say: 3.x does not, and a queue that
            dead-letters needs more than one.
        name: Of the queue, with the app's name before its first dot.
    """
    said = _REFUSED.search(str(error))
    user, vhost = (said["user"], said["vhost"]) if said else ("USER", "VHOST")
    if said is not None and said["what"] == "exchange":
        right = "write"
    elif said is not None and said["right"] == "read":
        right = "read"
    app = re.escape(name.partition(".")[0])
    own, write = rf"^{app}\.", rf"^({app}\..*|amq\.default)$"
    what = "amq.default" if right == "write" else name
    command = shlex.join(
        ["rabbitmqctl", "set_permissions", "-p", vhost, user, own, write, own],
    )
    return ConfigError(
        f"User {user} may not {_TO[right]} {what} in vhost {vhost}: it has no {right} "
        "permission for it.",
        fix=f"Grant it: {command}",
    )


@asynccontextmanager
async def may_declare(name: str) -> AsyncGenerator[None]:
    """Turn the broker's refusal of a declaration into a sentence.

    Raises:
        ConfigError: This user may not declare a queue of this name.
    """
    try:
        yield
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise refusal(error, "configure", name) from error


async def check_read(session: Session, names: Iterable[str]) -> None:
    """Make sure that these queues, which are there, may be consumed; takes no message.

    Raises:
        ConfigError: One may not.
    """
    await asyncio.gather(*(_check_read(session, name) for name in names))


async def _check_read(session: Session, name: str) -> None:
    # The broker looks at permissions first and then at arguments, of which this is a wrong
    # one: so it never begins to deliver.
    wrong: dict[str, object] = {"x-priority": "none"}
    async with session.brief_channel() as channel:
        try:
            await channel.calls.basic_consume(name, _never, arguments=wrong)  # type: ignore[arg-type]
        except aiormq.exceptions.ChannelAccessRefused as error:
            raise refusal(error, "read", name) from error
        except aiormq.exceptions.ChannelClosed:
            pass


async def _never(_: object) -> None:
    """Take what never comes."""


async def check_write(session: Session, name: str) -> None:
    """Make sure that this user may publish; stores nothing.

    A broker that is short of memory does not answer, which says nothing of permissions.

    Args:
        session: Of a connection for publishing.
        name: Of any queue of the app.

    Raises:
        ConfigError: It may not.
    """
    channel = await session.channel(confirms=True)
    try:
        async with asyncio.timeout(PROBE_S):
            # No queue has an empty name, so it comes back.
            await channel.calls.basic_publish(b"", routing_key="", mandatory=True)
    except TimeoutError:
        return
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise refusal(error, "write", name) from error
