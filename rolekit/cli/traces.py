"""`trace` and `why`: what happened to a message, and what it waited for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.console import out, out_json, visible
from rolekit.cli.ground import database_of
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings, target
from rolekit.errors import ConfigError, RolekitError
from rolekit.observe.story import Piece, cause_of, first_message, totals, tree, way_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.config import Config
    from rolekit.model.span import Span

_WAIT_S = 10
_ID_CHARS = 32
_HEX = frozenset("0123456789abcdef")
_SHORT_S, _LONG_S = 1.0, 120.0
_LONGEST_NAME = 56
_Row = tuple[str, str, str, str]
"""Name, begin, time taken, and what else is known; only the name where there is no span."""
_ALIKE = 5
"""So many spans of one name below one parent are shown."""

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Of a message, as a receipt has it; or of a trace.")
]


def trace(
    id_: IdArgument,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Show spans that are alike, too.")
    ] = False,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the trace of a message as a tree."""
    config = settings(app, sets, config_file)
    target(config)
    spans, *others = _found(config, id_)
    if as_json:
        out_json(sorted(spans, key=lambda span: span.begun_ns))
        return
    out(f"trace {spans[0].trace}, {len(spans)} spans")
    for line in _drawn(spans, every=every):
        out(line)
    if others:
        names = ", ".join(other[0].trace for other in others)
        out(f"It is in other traces too: {names}")
    _say_where(config, spans)


def why(
    id_: IdArgument,
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say what a message waited for, and where its time went."""
    config = settings(app, sets, config_file)
    target(config)
    spans = _found(config, id_)[0]
    message = first_message(spans) if id_ == spans[0].trace else id_
    pieces = way_of(spans, message, time.time_ns())
    cause = cause_of(pieces)
    if as_json:
        out_json({
            "trace": spans[0].trace,
            "cause": cause,
            "seconds": totals(pieces),
            "pieces": pieces,
        })  # fmt: skip
        return
    out(_verdict(cause, pieces))
    for stage, seconds in totals(pieces).items():
        if seconds:
            out(f"  {stage:<10} {_span(seconds):>10}")
    out("")
    for piece in pieces:
        detail = f"  {visible(piece.detail)}" if piece.detail else ""
        out(f"{_span(piece.seconds):>10}  {piece.stage:<8} {visible(piece.where)}{detail}")
    _say_where(config, spans)


def _found(config: Config, id_: str) -> list[list[Span]]:
    if len(id_) != _ID_CHARS or not _HEX.issuperset(id_):
        raise ConfigError(
            f"{id_!r} is no id: 32 hexadecimal digits are expected.",
            fix="Pass on the id of a receipt, of a log line, or of a trace.",
        )
    found = asyncio.run(_asked(config, id_))
    if not found:
        kept = "nothing is traced" if config.traces is None else f"traces = {config.traces:g}"
        raise RolekitError(
            f"No trace of {id_} is kept ({kept}; what fails or is slow is traced too).",
            fix="Trace more with ROLEKIT_TRACES=1; `rolekit holes`, `rolekit dead list` and "
            "`rolekit logs --message` may know of it.",
        )
    return found


async def _asked(config: Config, id_: str) -> list[list[Span]]:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    async with database_of(config, _WAIT_S) as there:
        return await wiring.traces_of(there, id_)


def _verdict(cause: Piece | None, pieces: Sequence[Piece]) -> str:
    if cause is None:
        return "Nothing is known of its way."
    whole_s, of_it_s = sum(p.seconds for p in pieces), totals(pieces)[cause.stage]
    detail = f": {visible(cause.detail)}" if cause.detail else ""
    return (
        f"{cause.stage} took most: {_span(of_it_s)} of {_span(whole_s)}, "
        f"at {visible(cause.where)}{detail}"
    )


def _drawn(spans: Sequence[Span], *, every: bool) -> list[str]:
    began_ns = min(span.begun_ns for span in spans)
    lines: list[_Row] = []
    for root in tree(spans):
        hidden: dict[tuple[str, str], int] = {}
        skipped: set[str] = set()
        for depth, node in root.walk():
            span = node.span
            alike = (span.parent, span.name)
            hidden[alike] = hidden.get(alike, 0) + 1
            if not every and (span.parent in skipped or hidden[alike] > _ALIKE):
                skipped.add(span.id)
                if hidden[alike] == _ALIKE + 1 and span.parent not in skipped:
                    more = f"{'  ' * depth}… more of {visible(span.name)} (--all shows them)"
                    lines.append((more, "", "", ""))
                continue
            lines.append(_line(span, depth, began_ns))
    return _aligned(lines)


def _aligned(lines: Sequence[_Row]) -> list[str]:
    """Set columns no wider than they need be: deep trees fill a terminal."""
    spans = [line for line in lines if any(line[1:])]
    name, at, took = (max(len(line[place]) for line in spans) for place in range(3))
    name = min(name, _LONGEST_NAME)
    return [
        f"{line[0]:<{name}}  {line[1]:>{at}}  {line[2]:>{took}}  {line[3]}".rstrip()
        for line in lines
    ]


def _line(span: Span, depth: int, began_ns: int) -> _Row:
    name = f"{'  ' * depth}{visible(span.name)}"
    at = f"+{_span((span.begun_ns - began_ns) / 1e9)}"
    took = _span(span.seconds) if span.ended_ns else "under way"
    more = [visible(span.instance)]
    count = span.attributes.get("messaging.batch.message_count")
    if count and count != 1:
        more.append(f"{count} messages")
    if "rolekit.attempt" in span.attributes:
        more.append(f"attempt {span.attributes['rolekit.attempt']}")
    if span.error:
        more.append(f"{visible(span.error)}: {visible(span.detail)}")
    return name, at, took, ", ".join(more)


def _say_where(config: Config, spans: Sequence[Span]) -> None:
    if config.trace_page:
        out(config.trace_page.replace("{trace_id}", spans[0].trace))


def _span(seconds: float) -> str:
    if seconds < _SHORT_S:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < _LONG_S else f"{seconds / 60:.1f} min"
