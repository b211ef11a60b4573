"""What JSON Schema says of a value, and what a document refers to."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Draft = Literal["Draft7Validator", "Draft202012Validator"]


def complaints(
    schema: Mapping[str, Any], value: object, draft: Draft = "Draft7Validator"
) -> list[str]:
    """Return what is wrong with a value."""
    library: Any = importlib.import_module("jsonschema")  # its types are lax
    return [error.message for error in getattr(library, draft)(schema).iter_errors(value)]


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise where a schema is none of draft 7."""
    library: Any = importlib.import_module("jsonschema")
    library.Draft7Validator.check_schema(schema)


def refs_in(value: object) -> Iterator[str]:
    """Give every reference in a document."""
    if isinstance(value, dict):
        for name, inner in cast("Mapping[str, Any]", value).items():
            if name == "$ref":
                yield inner
            else:
                yield from refs_in(inner)
    elif isinstance(value, list):
        for inner in cast("Sequence[Any]", value):
            yield from refs_in(inner)


def found(document: Mapping[str, Any], ref: str) -> Any:  # noqa: ANN401 - any part
    """Follow a reference; raises where it leads nowhere."""
    value: Any = document
    for step in ref.removeprefix("#/").split("/"):
        value = value[step]
    return value
