"""The control API as an OpenAPI 3.1 document, made from its table."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import msgspec

from rolekit.supervisor.control import ControlProblem, Nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.supervisor.control import Endpoint

_VERSION = importlib.metadata.version("rolekit")
_SCHEMAS = "#/components/schemas/{name}"
_TOKEN: list[dict[str, list[str]]] = [{}, {"token": []}]
_PROBLEM = {"$ref": "#/components/responses/Problem"}
METRICS_TYPE = "text/plain; version=0.0.4"
"""Of Prometheus's text format."""
METRICS: dict[str, object] = {
    "operationId": "metrics",
    "summary": "Say all numbers, as Prometheus wants them",
    "responses": {
        "200": {
            "description": "The answer.",
            "content": {METRICS_TYPE: {"schema": {"type": "string"}}},
        },
        "default": _PROBLEM,
    },
    "security": _TOKEN,
}
"""The one endpoint whose answer is not JSON."""


def document(endpoints: Sequence[Endpoint[Any]]) -> dict[str, object]:
    """Describe these endpoints.

    Source: OpenAPI Specification 3.1.1, with JSON Schema 2020-12.
    """
    types = {kind for one in endpoints for kind in (one.order, one.answer)} - {Nothing}
    _, schemas = msgspec.json.schema_components(
        sorted({*types, ControlProblem}, key=lambda kind: kind.__name__),
        ref_template=_SCHEMAS,
    )
    paths: dict[str, dict[str, object]] = {"/metrics": {"get": METRICS}}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "rolekit control API",
            "version": _VERSION,
            "description": "Looks after the fleet of one app on one host.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Problem": _json("It was refused.", ControlProblem)},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Over TCP; the Unix socket needs none.",
                }
            },
        },
    }


def _operation(one: Endpoint[Any]) -> dict[str, object]:
    answered = _json("It is done." if one.method == "POST" else "The answer.", one.answer)
    if one.is_stream:
        answered["content"] = {
            "application/x-ndjson": {"schema": {"type": "string"}},
        }
        answered["description"] = f"Lines, each a {one.answer.__name__} as JSON."
    operation: dict[str, object] = {
        "operationId": one.path.strip("/").replace("/", "_"),
        "summary": one.summary,
        "responses": {"200": answered, "default": _PROBLEM},
        "security": [] if one.is_public else _TOKEN,
    }
    if one.order is not Nothing and one.method == "POST":
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(one.order)}},
        }
    elif one.order is not Nothing:
        operation["parameters"] = [_parameter(field) for field in _fields(one.order)]
    return operation


def _parameter(field: msgspec.structs.FieldInfo) -> dict[str, object]:
    return {
        "name": field.encode_name,
        "in": "query",
        "required": field.required,
        "schema": msgspec.json.schema(field.type),
    }


def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _json(description: str, kind: type[msgspec.Struct]) -> dict[str, object]:
    return {
        "description": description,
        "content": {"application/json": {"schema": _schema(kind)}},
    }


def _schema(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _SCHEMAS.format(name=kind.__name__)}
