"""Reads a scenario from TOML; says line and field of what cannot be used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rolekit.config import nearest
from rolekit.errors import ConfigError
from rolekit.load.arrivals import Arrival, Burst, Constant, Poisson, Ramp, Replay, Step
from rolekit.load.objectives import objective
from rolekit.load.scenario import Call, Chaos, Direct, Entry, Http, Scenario, Smtp

if TYPE_CHECKING:
    from collections.abc import Iterator

_LAWS: tuple[type[msgspec.Struct], ...] = (Constant, Poisson, Ramp, Step, Burst, Replay)
_ENTRIES: tuple[type[msgspec.Struct], ...] = (Http, Smtp, Direct, Call)


def read(path: Path) -> Scenario:
    """Read a scenario from its file.

    Raises:
        ConfigError: It is not there, is no TOML, or a field of it cannot be used; says line
            and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"The scenario {path} cannot be read: {reason}.",
            fix="docs/how-to/load.md shows one.",
        ) from error
    return parse(text, str(path), path.parent)


def parse(text: str, name: str, folder: Path) -> Scenario:
    """Read a scenario from TOML.

    Args:
        text: The TOML.
        name: Of the file, for errors.
        folder: Where files lie that it names.

    Raises:
        ConfigError: It cannot be used; says line and field.
    """
    try:
        made: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}.") from error
    try:
        scenario = msgspec.convert(_beside(made, folder), Scenario)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), text, name) from error
    for field, what, fix in _mistakes(scenario):
        raise ConfigError(f"{_place(text, name, field)}: {what}", fix=fix)
    return scenario


def _beside(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Let the files it names be beside it."""
    changed = dict(made)
    for table, key in (("entry", "body_file"), ("arrival", "file")):
        found: object = made.get(table)
        if isinstance(found, dict):
            named = cast("dict[str, object]", found)
            if isinstance(path := named.get(key), str) and path:
                changed[table] = {**named, key: str(folder / path)}
    return changed


def _mistakes(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Yield the field, what is wrong with it, and what to do."""
    yield from _mistaken_times(scenario)
    yield from _mistaken_rates(scenario.arrival)
    yield from _mistaken_entry(scenario.entry)
    for name, bound in scenario.objectives.items():
        try:
            objective(f"{name}={bound}")
        except ConfigError as error:
            yield f"$.objectives.{name}", error.what, error.fix
    for number, chaos in enumerate(scenario.chaos):
        if sum(map(bool, (chaos.kill, chaos.restart, chaos.cut, chaos.command))) != 1:
            fix = (
                'kill = "Role", restart = "Role" or "broker", cut = "database" or "broker", '
                'or command = ["…"].'
            )
            yield f"$.chaos[{number}]", "exactly one thing happens at a time.", fix


def _mistaken_times(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    above_zero = {
        "for_s": scenario.for_s,
        "timeout_s": scenario.timeout_s,
        "clients": scenario.clients,
        "in_flight": scenario.in_flight,
    }
    for field, value in above_zero.items():
        if value <= 0:
            yield f"$.{field}", f"{value:g} is not above 0.", ""
    if not 0 <= scenario.warm_up_s < scenario.for_s:
        what = f"{scenario.warm_up_s:g} s leave nothing of {scenario.for_s:g} s."
        yield "$.warm_up_s", what, "The warm-up is part of for_s."
    if not 0 <= scenario.trace <= 1:
        yield "$.trace", f"{scenario.trace:g} is not a share.", "0.01 traces one in a hundred."
    if scenario.trace and isinstance(scenario.entry, Smtp):
        what = "a mail has no header that starts a trace."
        yield "$.trace", what, "Leave it out, and set ROLEKIT_TRACES where the app runs."


def _mistaken_rates(arrival: Arrival) -> Iterator[tuple[str, str, str]]:
    for field in ("rate", "size", "every_s", "speed"):
        value = getattr(arrival, field, 1)
        if value < 0 or (value == 0 and not (field == "rate" and isinstance(arrival, Burst))):
            yield f"$.arrival.{field}", f"{value:g} is not above 0.", ""
    if isinstance(arrival, Ramp) and (
        min(arrival.start, arrival.end) < 0 or arrival.start == arrival.end == 0
    ):
        yield "$.arrival.from", "a ramp goes from one rate to another, not below 0.", ""
    if isinstance(arrival, Step) and (not arrival.rates or min(arrival.rates) < 0):
        yield "$.arrival.rates", "wants rates, not below 0.", "rates = [100, 200, 400]"
    if isinstance(arrival, Replay) and not Path(arrival.file).is_file():
        yield (
            "$.arrival.file",
            f"there is no file {arrival.file}.",
            "One time a line, in seconds.",
        )


def _mistaken_entry(entry: Entry) -> Iterator[tuple[str, str, str]]:
    if isinstance(entry, Http) and not re.match(r"https?://[^/]", entry.url):
        yield "$.entry.url", f"{entry.url!r} is no URL.", "http://host:port/path"
    if isinstance(entry, Smtp) and not re.fullmatch(r".+:\d+", entry.at):
        yield "$.entry.at", f"{entry.at!r} is not host:port.", ""
    if isinstance(entry, Call) and not re.fullmatch(r"[\w.]+:\w+", entry.call):
        yield "$.entry.call", f"{entry.call!r} is not module:function.", ""
    if (
        isinstance(entry, Http | Smtp)
        and entry.body_file
        and not Path(entry.body_file).exists()
    ):
        yield "$.entry.body_file", f"there is nothing at {entry.body_file}.", ""


def _refusal(error: str, text: str, name: str) -> ConfigError:
    what, _, place = error.partition(" - at `")
    field = place.rstrip("`") or "$"
    if unknown := re.search(r"unknown field `(\w+)`", what):
        word = unknown[1]
        where = f"{field}.{word}"
        hint = nearest(word, _fields_at(field, text))
        return ConfigError(f"{_place(text, name, where)}: nobody knows this.{hint}")
    if missing := re.search(r"missing required field `(\w+)`", what):
        return ConfigError(f"{_place(text, name, field)}: {missing[1]} is missing.")
    tags = {"$.arrival.law": _LAWS, "$.entry.kind": _ENTRIES}
    if field in tags:
        known = [str(cls.__struct_config__.tag) for cls in tags[field]]
        value = re.search(r"'([^']*)'|value ([^ ]+)", what)
        hint = nearest(value[1] or value[2], known) if value else ""
        return ConfigError(
            f"{_place(text, name, field)}: {what[:1].lower()}{what[1:]}.{hint}",
            fix=f"One of {', '.join(known)}.",
        )
    return ConfigError(f"{_place(text, name, field)}: {what[:1].lower()}{what[1:]}.")


def _fields_at(field: str, text: str) -> list[str]:
    if field == "$":
        return list(Scenario.__struct_fields__)
    if field.startswith("$.chaos"):
        return list(Chaos.__struct_fields__)
    kinds = _LAWS if field.startswith("$.arrival") else _ENTRIES
    chosen = [cls for cls in kinds if f'"{cls.__struct_config__.tag}"' in text]
    return [name for cls in chosen or kinds for name in cls.__struct_encode_fields__]


def _place(text: str, name: str, field: str) -> str:
    """Say where a field is: file, line, and the field's path."""
    shown = field.removeprefix("$").removeprefix(".") or "the scenario"
    line = _line_of(text, field)
    return f"{name}, line {line}, {shown}" if line else f"{name}, {shown}"


def _line_of(text: str, field: str) -> int:
    """Return the line of a field such as `$.chaos[1].at_s`, or of the table it belongs in."""
    parts = re.findall(r"(\w+)(?:\[(\d+)\])?", field.removeprefix("$"))
    wanted, nth = (
        (parts[0][0], int(parts[0][1] or 0))
        if len(parts) > 1 or (parts and parts[0][1])
        else ("", 0)
    )
    key = parts[-1][0] if parts else ""
    table, seen, best = "", -1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([\w.]+)\s*\]+", line):
            table = header[1]
            seen += table == wanted
            if table in {wanted, key} and (seen == nth or not wanted):
                best = best or number
        elif (
            table == wanted
            and (not wanted or seen == nth)
            and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line)
        ):
            return number
    return best
