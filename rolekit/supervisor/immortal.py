"""Objects that nobody counts references to, where CPython has such: 3.12 and newer.

Looking at an object writes to it, since references are counted; in an instance each such
write copies a page of its zygote's memory. Since PEP 683 CPython has immortal objects, None
for one, whose count no longer changes: INCREF and DECREF look for a mark in its low 32 bits.
A zygote ends with all that lives in it, so all that is there before it forks may be given
that mark. What is immortal is never freed: what an app makes while it is imported stays for
as long as the process, even where it lets go of it.

Source: PEP 683, whose reason this is; Cinder, the CPython of Instagram, does the same with
`gc.immortalize_heap`.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import sysconfig
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRIED = ((3, 12), (3, 13))
"""Whose counts look as this module expects them. Newer ones count until somebody has looked."""


def can_be() -> bool:
    """Whether this interpreter has immortal objects of the kind that is known here."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in _TRIED
        and sys.byteorder == "little"
        and sys.maxsize > 1 << 32
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and not sysconfig.get_config_var("Py_DEBUG")  # which asserts that counts are true
    )


def make_all() -> int:
    """Make all that can be reached immortal; return how many objects that were.

    Elsewhere than in CPython 3.12 and 3.13 none are, and nothing happens.
    """
    if not can_be():
        return 0
    count = ctypes.c_uint32.from_address
    mark = count(id(None)).value
    made = 0
    # The garbage collector knows what can refer to others; the others are what they refer to.
    found = gc.get_objects()
    while found:
        fresh: list[object] = []
        for one in found:
            if sys.getrefcount(one) < mark:
                count(id(one)).value = mark
                fresh.append(one)
        made += len(fresh)
        found = gc.get_referents(*fresh)
        found += _parts(one for one in fresh if type(one) is CodeType)
    return made


def _parts(codes: Iterable[CodeType]) -> list[object]:
    """Return what code refers to, which it does not tell the garbage collector."""
    parts: list[object] = []
    for code in codes:
        parts += (code.co_consts, code.co_names, code.co_linetable, code.co_exceptiontable)
        parts += (code.co_filename, code.co_name, code.co_qualname)
    return parts
