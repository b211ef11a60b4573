"""Keys of a document's parts: what references can name, and no two alike."""

from __future__ import annotations

import re

_ODD = re.compile(r"[^A-Za-z0-9._-]")


class Keys:
    """Gives each thing of one kind a key, the same each time it is asked."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str, *, by: str = "") -> str:
        """Return the key of a thing: its name, where that can be one.

        Args:
            name: As people call it.
            by: What else tells it from others of that name.
        """
        thing = f"{by}\0{name}"
        if thing not in self._given:
            plain = _ODD.sub("_", name)
            key, more = plain, 2
            while key in self._taken:
                key, more = f"{plain}_{more}", more + 1
            self._taken.add(key)
            self._given[thing] = key
        return self._given[thing]


def summary(of: object) -> str:
    """Return the first line of a docstring written for this very thing, or nothing."""
    text = vars(of).get("__doc__") if isinstance(of, type) else getattr(of, "__doc__", None)
    lines = text.strip().splitlines() if isinstance(text, str) else []
    return lines[0].strip() if lines else ""
