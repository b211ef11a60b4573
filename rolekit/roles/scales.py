"""Whether what a role says about its number of instances can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rolekit.model.graph import Problem
from rolekit.model.policy import Scale
from rolekit.roles.base import Role
from rolekit.roles.keyed import partitions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rolekit.roles.inspect import Found


def problems_of_scales(
    roles: Iterable[type[Role]], found: Iterable[Found]
) -> Iterator[Problem]:
    """Find rules for scaling that would not work."""
    roles, found = list(roles), list(found)
    partitions = partitions_of(roles, found)
    for role in roles:
        scale = cast("object", role.scale)
        if scale is None:
            continue
        if not isinstance(scale, Scale):
            yield Problem(
                role.__name__,
                f"has scale = {scale!r}; a Scale is expected.",
                "Write scale = Scale(min=1, max=50, target_age_s=5).",
            )
            continue
        yield from _of_instances(role, scale)
        if scale.min < scale.max:
            own = [each for each in found if each.plan.role == role.__name__]
            yield from _of_queues(role, scale, own, partitions.get(role.__name__))


def _of_instances(role: type[Role], scale: Scale) -> Iterator[Problem]:
    count = role.instances
    is_own = any("instances" in vars(cls) for cls in role.__mro__ if cls is not Role)
    if is_own and not scale.min <= count <= scale.max:
        yield Problem(
            role.__name__,
            f"has instances = {count!r}, but its scale allows {scale.min} to {scale.max}.",
            "It begins with `instances`, so name one of those, or leave it out.",
        )


def _of_queues(
    role: type[Role], scale: Scale, own: Iterable[Found], partitions: int | None
) -> Iterator[Problem]:
    own = list(own)
    if not own:
        yield Problem(
            role.__name__,
            f"has scale = Scale(min={scale.min}, max={scale.max}), but no handler: a rule goes "
            "by the messages that wait, and none do.",
            f"Leave it out, and say instances = {max(scale.min, 1)}; `rolekit scale` changes "
            "that while it runs.",
        )
    elif (
        partitions is not None and scale.max > partitions and all(each.plan.key for each in own)
    ):
        yield Problem(
            role.__name__,
            f"has scale = Scale(max={scale.max}), but its keys are divided into {partitions} "
            "partitions: more instances have nothing to do.",
            f"Say max={partitions}, or partitions = {scale.max}.",
        )
