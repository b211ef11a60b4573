"""Showing something again each second, in place on a terminal."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec
from rich.live import Live

from rolekit.cli.console import out
from rolekit.cli.tables import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

T = TypeVar("T")

_TURN_S = 1.0


def again(
    look: Callable[[], T], show: Callable[[T], RenderableType], *, as_json: bool = False
) -> None:
    """Show what is seen each second until Ctrl-C; where no terminal is, one below the other.

    Raises:
        Unavailable: What `look` asks went away.
    """
    terminal = console()
    with suppress(KeyboardInterrupt):
        if as_json:
            for seen in _each_second(look):
                out(msgspec.json.encode(seen).decode())
        elif not terminal.is_terminal:
            for seen in _each_second(look):
                terminal.print(show(seen), "")
        else:
            with Live(console=terminal, auto_refresh=False) as live:
                for seen in _each_second(look):
                    live.update(show(seen), refresh=True)


def _each_second(look: Callable[[], T]) -> Iterator[T]:
    while True:
        yield look()
        time.sleep(_TURN_S)
