"""What a gather or a batch is handed: parts in order, holes, and letters that died."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Generic, Literal, TypeVar, overload

from rolekit.errors import Reject, Retry

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A position that will not come; handed over only where the annotation admits it.

    Attributes:
        reason: Whether the part died, or did not come before the deadline.
        detail: What to tell a person.
        dead_letter_id: Of the part that died; None at a deadline.
    """

    reason: Literal["dead-letter", "deadline"]
    detail: str = ""
    dead_letter_id: str | None = None


class _Parts(Sequence[T_co]):
    """An immutable sequence, compared by its items and nothing else."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[T_co]) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int, /) -> T_co: ...
    @overload
    def __getitem__(self, index: slice, /) -> Sequence[T_co]: ...
    def __getitem__(self, index: int | slice, /) -> T_co | Sequence[T_co]:
        """Return one item, or a tuple of several."""
        return self._items[index]

    def __len__(self) -> int:
        """Count the items."""
        return len(self._items)


class Run(_Parts[T_co]):
    """The next parts of a sequence, in order; the same parts on every attempt.

    Attributes:
        id: The same on every attempt: an idempotency key for what is done with the run.
        source_id: Of the message that was split.
        offset: How many parts came before.
        is_last: Whether no part follows.
        dropped: Positions within this run whose handler returned None.
    """

    __slots__ = ("dropped", "id", "is_last", "offset", "source_id")

    def __init__(
        self,
        parts: Iterable[T_co],
        *,
        id: str = "",  # noqa: A002 - the public name
        source_id: str = "",
        offset: int = 0,
        is_last: bool = False,
        dropped: int = 0,
    ) -> None:
        super().__init__(parts)
        self.id = id
        self.source_id = source_id
        self.offset = offset
        self.is_last = is_last
        self.dropped = dropped

    def __repr__(self) -> str:
        """Show the parts and where they stand."""
        return f"Run({list(self)!r}, offset={self.offset}, is_last={self.is_last})"


class Batch(_Parts[T_co]):
    """What is waiting now, up to a size and an age; another attempt may hold others.

    Attributes:
        ids: One stable id for each item.
        retries: Index to delay in seconds, as the handler asked.
        rejections: Index to reason, as the handler said.
    """

    __slots__ = ("ids", "rejections", "retries")

    def __init__(self, items: Iterable[T_co], *, ids: Iterable[str] = ()) -> None:
        super().__init__(items)
        self.ids: Sequence[str] = tuple(ids)
        self.retries: dict[int, float] = {}
        self.rejections: dict[int, str] = {}

    def retry(self, index: int, /, *, delay_s: float = 0) -> None:
        """Try one item again later; the others go on.

        Raises:
            IndexError: The batch has no such item.
        """
        self._check(index)
        self.retries[index] = delay_s

    def reject(self, index: int, reason: str, /) -> None:
        """Make one item a dead letter now; the others go on.

        Raises:
            IndexError: The batch has no such item.
        """
        self._check(index)
        self.rejections[index] = reason

    def steered(self, index: int) -> Exception | None:
        """Return what the handler decided about one item alone, as if it had raised that."""
        if index in self.rejections:
            return Reject(self.rejections[index])
        if index in self.retries:
            return Retry("its batch handler asked for it", delay_s=self.retries[index])
        return None

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            msg = f"The batch has {len(self)} items, numbered from 0; there is no item {index}."
            raise IndexError(msg)

    def __repr__(self) -> str:
        """Show the items."""
        return f"Batch({list(self)!r})"


@dataclass(frozen=True, slots=True)
class DeadLetter(Generic[T_co]):
    """A message that will not be tried again by itself.

    Attributes:
        message: As it was sent.
        id: Of the dead letter.
        handler: "Payments.charge".
        reason: Why, for a person.
        attempts: How often it was tried.
    """

    message: T_co
    _: KW_ONLY
    id: str = ""
    handler: str = ""
    reason: str = ""
    attempts: int = 0
