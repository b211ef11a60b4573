"""Random sequences: trees of splits, and what closes each position, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

from rolekit.model.reassembly import ClosedBy, Closing, OnFailed, Reassembler, Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rolekit.model.position import Path

T = TypeVar("T")

SEQUENCE = "5e" * 16
ALL: tuple[OnFailed, ...] = ("wait", "skip", "fail", "hole")


@dataclass(frozen=True)
class Node:
    """One position: a leaf, or a split whose end may come on its own."""

    by: ClosedBy
    children: tuple[Node, ...] = ()
    is_open: bool = False


class Choices:
    """Reads choices out of drawn bytes, which cost one draw and shrink well; then zeros."""

    def __init__(self, data: bytes) -> None:
        self._left = iter(data)

    def below(self, limit: int) -> int:
        """Choose one of so many."""
        return next(self._left, 0) % limit

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Choose an order, and repeat some items in it."""
        order = [*items, *[one for one in items if not self.below(5) - 1]]
        for i in range(len(order)):
            j = i + self.below(len(order) - i)
            order[i], order[j] = order[j], order[i]
        return order


MAX_NODES = 14


def tree(choices: Choices, leaves_by: Sequence[ClosedBy]) -> Node:
    """Choose a split, perhaps of nothing, whose leaves are closed in these ways."""
    left = MAX_NODES

    def split() -> Node:
        nonlocal left
        is_open = bool(choices.below(2))
        children: list[Node] = []
        while left and choices.below(6) != 5:  # few trees are empty
            left -= 1
            is_leaf = choices.below(3) < 2
            children.append(
                Node(leaves_by[choices.below(len(leaves_by))]) if is_leaf else split()
            )
        return Node(ClosedBy.SPLIT, tuple(children), is_open)

    return split()


def closing(path: Path, by: ClosedBy, total: int | None = None) -> Closing:
    """Close a position; the body of a part names it."""
    body = repr(path).encode() if by is ClosedBy.PART else b""
    return Closing(sequence=SEQUENCE, path=path, by=by, total=total, body=body)


def closings(node: Node, path: Path = ()) -> Iterator[Closing]:
    """Close every position of a tree; its root only where its end is told apart."""
    if node.by is not ClosedBy.SPLIT:
        yield closing(path, node.by)
        return
    if node.is_open and path:
        yield closing(path, ClosedBy.SPLIT)
    if node.is_open or path:
        yield closing(path, ClosedBy.SPLIT, len(node.children))
    for index, child in enumerate(node.children):
        yield from closings(child, (*path, index))


def leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, ClosedBy]]:
    """List the leaves of a tree in order."""
    if node.by is not ClosedBy.SPLIT:
        yield path, node.by
    for index, child in enumerate(node.children):
        yield from leaves(child, (*path, index))


def reassembler(root: Node, on_failed: OnFailed) -> Reassembler:
    """Make the sequence of a tree."""
    total = None if root.is_open else len(root.children)
    return Reassembler(SEQUENCE, total, on_failed=on_failed)


@dataclass(frozen=True)
class Released:
    """What came out of a sequence: items in order, holes passed, and how it stands."""

    items: tuple[Path, ...] = ()
    dropped: int = 0
    is_finished: bool = False
    failed_at: Path | None = None


def released(whole: Iterable[tuple[Path, ClosedBy]], on_failed: OnFailed) -> Released:
    """Say what should come out of leaves in order."""
    items: list[Path] = []
    dropped = 0
    for path, by in whole:
        if by is ClosedBy.FAILED and on_failed in {"wait", "fail"}:
            return Released(
                tuple(items), dropped, failed_at=path if on_failed == "fail" else None
            )
        if by is ClosedBy.PART or (by is ClosedBy.FAILED and on_failed == "hole"):
            items.append(path)
        else:
            dropped += 1
    return Released(tuple(items), dropped, is_finished=True)


def seen(runs: Sequence[Walk]) -> Released:
    """Say what came out in some runs."""
    return Released(
        items=tuple(item.path for run in runs for item in run.items),
        dropped=sum(run.dropped for run in runs),
        is_finished=bool(runs) and runs[-1].cursor.is_finished,
        failed_at=next((run.failure.path for run in runs if run.failure), None),
    )


Case = tuple[Node, list[Closing]]
DATA = st.binary(min_size=64, max_size=64)
"""Of one length: drawn lengths are mostly short, and make trees with nothing in them."""
ENDS = (ClosedBy.PART, ClosedBy.DROPPED, ClosedBy.FAILED)
LIVE = (ClosedBy.DROPPED, ClosedBy.PART)


def cases(leaves_by: tuple[ClosedBy, ...] = ENDS) -> st.SearchStrategy[Case]:
    """Draw a tree, and its closings in any order, some of them repeated."""

    def build(shape: bytes, order: bytes) -> Case:
        root = tree(Choices(shape), leaves_by)
        return root, Choices(order).shuffled(list(closings(root)))

    return st.builds(build, DATA, DATA)
