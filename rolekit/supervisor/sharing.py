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
- The first thirty objects of a class each lower a number in the class. So it is lowered
  before.
- Code is written to when it runs: each branch notes which way it went. What runs in an
  instance lies among much that does not. So it is copied to one place.
"""

from __future__ import annotations

import gc
import platform
import sys
from contextlib import suppress
from types import FunctionType
from typing import TYPE_CHECKING

from rolekit.garbage import pass_over_what_is_there
from rolekit.supervisor import immortal, linux

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

_STEP, _LARGEST = 16, 512
"""CPython has places for small objects of each multiple of 16 bytes up to here."""
_POOL = 16 * 1024
"""Places of one size are in pools of so many bytes, each of which has a head."""
_POOL_HEAD = 48
_LARGER = (1 << 16, 1 << 15, 1 << 14, 1 << 13, 1 << 12, 1 << 11, *range(1040, 528, -16))
"""Bytes that malloc gives for larger objects, the largest first, so that none of them splits a
hole in vain. glibc keeps holes of up to 1,032 bytes for the very size that they are of."""
_MALLOC_HEAD = 8
_LONG_RUN = 32 * 1024
"""Bytes that malloc gave one behind the other: it found no hole."""
_MOST_BYTES = 1 << 20
"""Of one size: more holes there are not. This ends it where pools are otherwise."""
_MOST_BEYOND = 384 * 1024
"""Of one size larger than those: as much where an allocator that is loaded in place of glibc's
lays nothing one behind the other, and the zygote keeps it."""
_LOWERED = 30
"""Objects of a class after which CPython lowers nothing more."""
_MANAGED_DICT = 1 << 4
"""Of `type.__flags__`: instances keep their attributes as their class says."""

_kept: list[list[bytes]] = []


def freeze() -> None:
    """Leave all that is there as it is, for processes that are forked from now on."""
    sys._clear_type_cache()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    gc.collect()
    gc.disable()
    immortal.make_all()
    _fill()
    pass_over_what_is_there(collects=False)
    linux.use_large_pages()


def gather(used: Iterable[CodeType]) -> None:
    """Copy code that instances will run, so that it lies together; functions run the copies.

    Code inside of other code, as that of a function in a function, stays where it is.

    Args:
        used: The code, as it should lie.
    """
    gc.collect()
    wanted = {id(code): code for code in used}
    functions = [
        one
        for one in gc.get_objects()
        if type(one) is FunctionType and id(one.__code__) in wanted
    ]
    theirs = {id(one.__code__) for one in functions}
    codes = [code for key, code in wanted.items() if key in theirs]
    # A copy is made from these bytes, and CPython keeps them: not between the copies.
    bytecodes = [code.co_code for code in codes]
    _fill()
    copies = {id(code): code.replace() for code in codes}
    del bytecodes
    for one in functions:
        one.__code__ = copies[id(one.__code__)]


def settle(classes: Iterable[type]) -> None:
    """Make objects of these classes until another one writes nothing to its class.

    Where references are counted, each does, and nothing is done.

    Args:
        classes: Whose objects have all their attributes by now: CPython takes no further ones
            into account then. Nothing of theirs is run.
    """
    if not immortal.can_be():
        return
    for one in classes:
        ends_somehow = any("__del__" in vars(base) for base in one.__mro__)
        if one.__flags__ & _MANAGED_DICT and not ends_somehow:
            with suppress(TypeError):  # of a base in C, which has to be made by it
                for _ in range(_LOWERED):
                    object.__new__(one)


def _fill() -> None:
    smallest = _STEP * -(-sys.getsizeof(b"") // _STEP)
    _kept.extend(filling(size) for size in range(smallest, _LARGEST + 1, _STEP))
    if platform.libc_ver()[0] == "glibc":
        _kept.extend(filling_beyond(size) for size in _LARGER)


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


def filling_beyond(size: int) -> list[bytes]:
    """Fill the holes for larger objects, for which malloc gives so many bytes.

    Returns:
        What is in them now.
    """
    length = size - _MALLOC_HEAD - sys.getsizeof(b"")
    run = max(4 * size, _LONG_RUN)
    kept: list[bytes] = []
    before = in_order = 0
    while in_order < run and len(kept) * size < max(4 * run, _MOST_BEYOND):
        one = b"\0" * length  # not bytes(length): calloc passes by what glibc keeps at hand
        kept.append(one)
        in_order = in_order + size if id(one) == before + size else 0
        before = id(one)
    return kept
