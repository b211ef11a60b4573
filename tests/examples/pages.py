"""Programs out of the pages, imported as their reader would."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).parents[2]


def programs(page: str) -> list[str]:
    """Take the blocks of Python out of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@contextmanager
def imported(page: str, name: str, *, blocks: slice = slice(None)) -> Generator[ModuleType]:
    """Run blocks of a page, one after another, as one module."""
    module = ModuleType(name)
    sys.modules[name] = module
    try:
        for block in programs(page)[blocks]:
            exec(compile(block, page, "exec"), module.__dict__)  # noqa: S102 - our own pages
        yield module
    finally:
        del sys.modules[name]
