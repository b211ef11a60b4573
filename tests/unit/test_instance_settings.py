"""What a host refuses before it starts a role."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import pytest

from rolekit import WorkerRole
from rolekit.errors import ConfigError
from rolekit.roles.host import Instance

if TYPE_CHECKING:
    from rolekit.roles.services import Services

pytestmark = pytest.mark.anyio


class Greedy(WorkerRole):
    """Wants more deliveries in hand than AMQP can count."""

    concurrency: ClassVar[int] = 70_000


class Modest(WorkerRole):
    """Takes what it is given."""


@pytest.mark.parametrize(
    ("role", "values", "shown"),
    [
        (Greedy, {}, "Greedy.concurrency is '70000'"),
        (Modest, {"concurrency": "65536"}, "Modest.concurrency is '65536'"),
        (Modest, {"concurrency": "0"}, "Modest.concurrency is '0'"),
        (Modest, {"concurrency": "many"}, "Modest.concurrency is 'many'"),
    ],
)
async def test_a_concurrency_out_of_range_is_refused_with_the_range(
    role: type[WorkerRole], values: dict[str, object], shown: str
) -> None:
    instance = Instance(role, cast("Services", None), values=values)

    with pytest.raises(ConfigError) as caught:
        await instance.run(lambda: None)

    assert caught.value.what == f"{shown}; 1 to 65535 is expected."
