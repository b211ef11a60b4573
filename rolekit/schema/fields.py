"""JSON Schemas of message classes, whoever wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from rolekit.errors import AppError
from rolekit.model.codec import resolve_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.schema.naming import Keys

Document = dict[str, Any]
"""A part of a document, as JSON has it."""

PLACE = "#/components/schemas/"


def schemas_of(classes: Iterable[type], keys: Keys) -> tuple[dict[type, Document], Document]:
    """Describe the fields of messages.

    Args:
        classes: Message classes: of ours, dataclasses, attrs classes and pydantic models.
        keys: Of the schemas; those of pydantic's are taken from it.

    Returns:
        A reference for each class, and what they refer to.

    Raises:
        AppError: A field is of a type that no message can have.
    """
    classes = list(dict.fromkeys(classes))
    foreign = [cls for cls in classes if hasattr(cls, "__pydantic_fields__")]
    own = [cls for cls in classes if cls not in foreign]
    refs, found = _of_msgspec(own)
    for name in found:
        keys.of(name)
    for cls in foreign:
        refs[cls], more = _of_pydantic(cls, keys)
        found |= more
    return refs, found


def _of_msgspec(classes: list[type]) -> tuple[dict[type, Document], Document]:
    for cls in classes:
        resolve_fields(cls)
        try:
            msgspec.json.schema(cls)
        except TypeError as error:
            wrong = str(error).strip().splitlines()[-1].removeprefix("type ")
            raise AppError(
                f"{cls.__qualname__} cannot be described: {wrong}.",
                fix="Fields hold text, numbers, bytes, times, collections and messages.",
            ) from error
    refs, found = msgspec.json.schema_components(classes, ref_template=PLACE + "{name}")
    plain = cast("Document", msgspec.to_builtins(found))
    return dict(zip(classes, refs, strict=True)), plain


def _of_pydantic(cls: Any, keys: Keys) -> tuple[Document, Document]:  # noqa: ANN401 - pydantic's
    key = keys.of(f"{cls.__module__}.{cls.__qualname__}", by="pydantic")
    whole: Document = cls.model_json_schema(ref_template=f"{PLACE}{key}.{{model}}")
    inner: Document = whole.pop("$defs", {})
    return {"$ref": PLACE + key}, {key: whole} | {f"{key}.{n}": s for n, s in inner.items()}


def as_draft_7(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    """Write tuples as JSON Schema draft 7 has them, which AsyncAPI builds on."""
    if isinstance(schema, list):
        return [as_draft_7(each) for each in cast("Sequence[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    said = cast("Document", schema)
    found: Document = {name: as_draft_7(value) for name, value in said.items()}
    if isinstance(found.get("prefixItems"), list):
        rest = found.pop("items", True)
        found["items"] = found.pop("prefixItems")
        found["additionalItems"] = rest
    return found
