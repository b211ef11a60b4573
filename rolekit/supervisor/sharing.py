"""What makes instances share more of their zygote's memory, and start sooner.

A page of memory is shared between processes until one of them writes to it; then the kernel
copies it, which takes time as well. CPython writes where nothing changes, since it counts
references to whatever it looks at. Python 3.11 cannot be kept from that, but this helps:

- Types remember where they found attributes, in a table that holds the names of them all. An
  entry that replaces another writes to a name that nobody asked for, anywhere in memory. So
  the table is emptied before.
- New objects go where old ones were freed, a hole here and a hole there. So holes are filled
  before, and what an instance makes comes to lie together.
- A garbage collection writes to every object that it looks at. So those that are there are
  kept from it.
- A fork notes each page of 4 KiB by itself. So what is there is put into large ones.
- References are counted in the object itself. So where Python has objects whose references
  are not counted, those that are there become such; see `immortal.py`.
- Code is written to when it runs, and what runs in an instance lies among much that does not.
  So it is copied to one place.
"""

from __future__ import annotations

import gc
import sys
from types import FunctionType
from typing import TYPE_CHECKING

from rolekit.supervisor import immortal, linux

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

_STEP, _LARGEST = 16, 512
"""CPython has places for small objects of each multiple of 16 bytes up to here."""
_POOL = 16 * 1024
"""Places of one size are in pools of so many bytes, each of which has a head."""
_POOL_HEAD = 48
_MOST_BYTES = 1 << 20
"""Of one size: more holes there are not. This ends it where pools are otherwise."""

_kept: list[list[bytes]] = []


def freeze() -> None:
    """Leave all that is there as it is, for processes that are forked from now on."""
    sys._clear_type_cache()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    gc.collect()
    gc.disable()
    immortal.make_all()
    _fill()
    gc.freeze()
    linux.use_large_pages()


def gather(used: Iterable[CodeType]) -> None:
    """Copy code that instances will run, so that it lies together; functions run the copies.

    Code inside of other code, as that of a function in a function, stays where it is.
    """
    wanted = {id(code): code for code in used}
    copies: dict[int, CodeType] = {}
    _fill()
    for one in gc.get_objects():
        if type(one) is FunctionType and (code := wanted.get(id(one.__code__))):
            if id(code) not in copies:
                copies[id(code)] = code.replace()
            one.__code__ = copies[id(code)]


def _fill() -> None:
    smallest = _STEP * -(-sys.getsizeof(b"") // _STEP)
    _kept.extend(filling(size) for size in range(smallest, _LARGEST + 1, _STEP))


def filling(size: int) -> list[bytes]:
    """Fill the holes for objects of so many bytes; return what is in them now.

    A pool that was never used gives its places in order. So when objects came to lie one
    behind the other from its head to its end, holes were over.
    """
    length, places = size - sys.getsizeof(b""), (_POOL - _POOL_HEAD) // size
    kept: list[bytes] = []
    before = in_order = 0
    while in_order < places and len(kept) * size < _MOST_BYTES:
        one = bytes(length)
        kept.append(one)
        at = id(one)
        if at % _POOL == _POOL_HEAD:
            in_order = 1
        else:
            in_order = in_order + 1 if in_order and at == before + size else 0
        before = at
    return kept
