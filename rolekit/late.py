"""Names of a package whose modules are loaded when a name is first asked for.

Source: PEP 562.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def loader(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make `__getattr__` and `__dir__` of a package.

    Args:
        package: Its name.
        modules: By the full name of each: what of it can be asked for.
    """
    module_of = {name: module for module, names in modules.items() for name in names}
    there = vars(sys.modules[package])

    def load(name: str) -> object:
        """Load what has this name; Python asks once, and remembers."""
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = getattr(import_module(module_of[name]), name)
        there[name] = found
        return found

    def names() -> list[str]:
        """List what is there, loaded or not."""
        return sorted({*there, *module_of})

    return load, names
