"""The routes of an app's WebRoles as an OpenAPI 3.1 document.

What is mounted describes itself, if its framework can: FastAPI does.

Source: OpenAPI Specification 3.1.1, with JSON Schema 2020-12; RFC 9457 for problems.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from rolekit.errors import ConfigError
from rolekit.model.message import Receipt, Reply, is_message_class, wire_name
from rolekit.roles.http_app import KEY
from rolekit.roles.http_binding import REQUIRED, Parameter, without_none
from rolekit.roles.http_problems import PROBLEM_JSON
from rolekit.roles.http_routes import Route, routes_of
from rolekit.roles.web import WebRole
from rolekit.schema.fields import Document, schemas_of
from rolekit.schema.naming import Keys, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.roles.app import App

VERSION = "3.1.1"
_CONVERTOR = re.compile(r"{(\w+):\w+}")
_PROBLEM = "rolekit.Problem"
_DESCRIPTION = "Errors are application/problem+json."


def document(app: App, *, release: str, role: str = "") -> Document:
    """Describe the routes of an app, or of one of its roles.

    Args:
        app: Without problems.
        release: Of the app, as people number it.
        role: Class name of a WebRole; empty: all of them.

    Raises:
        AppError: The app has problems, or a message that cannot be described.
        ConfigError: It has no such WebRole; or two of them answer the same path, and which
            is meant is not said.
    """
    app.plan()
    return _Writer(_fronts(app, role)).document(app.name, release)


def _fronts(app: App, role: str) -> list[type[WebRole]]:
    fronts = [each for each in app.roles if issubclass(each, WebRole)]
    names = ", ".join(each.__name__ for each in fronts)
    if not fronts:
        raise ConfigError(
            f"{app.name} has no WebRole, so there are no routes.",
            fix="Leave --openapi out: the queues of an app are described by AsyncAPI.",
        )
    found = [each for each in fronts if role in ("", each.__name__)]
    if not found:
        raise ConfigError(
            f"{app.name} has no WebRole {role!r}.", fix=f"Those it has are {names}."
        )
    _check_apart(found)
    return found


def _check_apart(fronts: Sequence[type[WebRole]]) -> None:
    """See that no two roles answer the same; each has a port of its own, a document has not."""
    seen: dict[str, str] = {}
    for front in fronts:
        for route in routes_of(front):
            shape = f"{route.method} {re.sub(r'{[^}]*}', '{}', route.path)}"
            other = seen.setdefault(shape, front.__name__)
            if other != front.__name__:
                raise ConfigError(
                    f"{other} and {front.__name__} both answer {route.template}, each on a "
                    "port of its own.",
                    fix=f"Name one of them: --role {other}.",
                )


class _Writer:
    """A document under the pen."""

    def __init__(self, fronts: Sequence[type[WebRole]]) -> None:
        self._fronts = fronts
        self._routes = [(front, route) for front in fronts for route in routes_of(front)]
        classes = [cls for _, route in self._routes for cls in _classes(route)]
        self._refs, self._schemas = schemas_of(classes, Keys())
        self._keys = Keys()

    def document(self, app: str, release: str) -> Document:
        paths: dict[str, Document] = {}
        for front, route in self._routes:
            path = _CONVERTOR.sub(r"{\1}", route.path)
            paths.setdefault(path, {})[route.method.lower()] = self._operation(front, route)
        return {
            "openapi": VERSION,
            "info": {"title": app, "version": release, "description": self._description()},
            "tags": [_tag(front) for front in self._fronts],
            "paths": paths,
            "components": {
                "schemas": self._schemas | {_PROBLEM: _problem()},
                "responses": {"Problem": _answer("It was refused.", PROBLEM_JSON, _PROBLEM)},
            },
        }

    def _description(self) -> str:
        mounted = [
            f"{getattr(app, 'title', type(app).__name__)} below {prefix} of {front.__name__}"
            for front in self._fronts
            for prefix, app in front.mounts.items()
        ]
        if not mounted:
            return _DESCRIPTION
        return f"{_DESCRIPTION} Mounted, and not described here: {', '.join(mounted)}."

    def _operation(self, front: type[WebRole], route: Route) -> Document:
        name = f"{front.__name__}.{route.name}"
        method = getattr(front, route.name)
        parameters = [_parameter(p) for p in route.parameters if p.source in ("path", "query")]
        if route.method != "GET" and not route.is_stream:
            parameters.append(_idempotency_key())
        said: Document = {
            "operationId": self._keys.of(name, by=f"{route.method} {route.path}"),
            "summary": summary(method) or route.name,
            "tags": [front.__name__],
            "parameters": parameters,
        }
        body = self._body(route)
        if body is not None:
            said["requestBody"] = body
        problem = {"$ref": "#/components/responses/Problem"}
        said["responses"] = self._answers(route) | {"default": problem}
        return said

    def _body(self, route: Route) -> Document | None:
        for parameter in route.parameters:
            if parameter.source == "message":
                content = {"application/json": {"schema": self._refs[parameter.kind]}}
                return {"required": True, "content": content}
            if parameter.source == "bytes":
                return {"content": {"*/*": {}}}
        takes_request = any(parameter.source == "request" for parameter in route.parameters)
        if takes_request and route.method not in ("GET", "DELETE"):
            return {"content": {"*/*": {}}}
        return None

    def _answers(self, route: Route) -> Document:
        """Describe what comes back, by status."""
        if route.is_stream:
            return {"200": self._stream(route)}
        found: Document = {}
        messages: list[Document] = []
        for kind in route.answers:
            if kind is None:
                found["204"] = {"description": "It is done."}
            elif isinstance(kind, type) and issubclass(kind, Receipt):
                found["202"] = self._receipt(kind)
            elif isinstance(kind, type) and is_message_class(kind):
                messages.append(self._refs[kind])
            else:  # a Response of its own, or any message
                found.setdefault(str(route.status), {"description": "The answer."})
        if messages:
            schema = messages[0] if len(messages) == 1 else {"anyOf": messages}
            answer: Document = found.setdefault(str(route.status), {})
            answer |= {
                "description": "The answer.",
                "content": {"application/json": {"schema": schema}},
            }
        return found

    def _stream(self, route: Route) -> Document:
        names = [wire_name(kind) for kind in route.answers if isinstance(kind, type)]
        return {
            "description": "Events, each with a message as its data; their names are "
            f"{', '.join(names)}. With Last-Event-ID they go on behind that one.",
            "content": {
                "text/event-stream": {
                    "schema": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {
                            "anyOf": [
                                self._refs[kind] for kind in _classes(route, answers=True)
                            ]
                        },
                    }
                }
            },
        }

    def _receipt(self, kind: type) -> Document:
        return {
            "description": "It is durable, and will be handled.",
            "headers": {
                "Location": {
                    "description": "Of this message, below this path.",
                    "schema": {"type": "string", "format": "uri-reference"},
                }
            },
            "content": {"application/json": {"schema": self._refs[kind]}},
        }


def _classes(route: Route, *, answers: bool = False) -> list[type]:
    """List the message classes of a route that have fields of their own."""
    kinds: list[Any] = [*route.answers]
    if not answers:
        kinds += [p.kind for p in route.parameters if p.source == "message"]
    return [kind for kind in kinds if is_message_class(kind) and kind is not Reply]


def _parameter(item: Parameter) -> Document:
    is_path = item.source == "path"
    schema: Document = msgspec.json.schema(without_none(item.kind))
    if item.default not in (REQUIRED, None):
        schema = schema | {"default": msgspec.to_builtins(item.default)}
    return {
        "name": item.name,
        "in": item.source,
        "required": is_path or item.default is REQUIRED,
        "schema": schema,
    }


def _idempotency_key() -> Document:
    return {
        "name": KEY,
        "in": "header",
        "description": "A request that is sent again under its key takes effect once, and "
        "gets the same answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    }


def _tag(front: type[WebRole]) -> Document:
    text = summary(front)
    return {"name": front.__name__} | ({"description": text} if text else {})


def _answer(description: str, media_type: str, schema: str) -> Document:
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _problem() -> Document:
    text = {"type": "string"}
    place = {"path": text, "message": text}
    return {
        "title": "Problem",
        "description": "What is wrong with a request, or here.",
        "type": "object",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "errors": {
                "description": "Of status 400: each field that does not fit.",
                "type": "array",
                "items": {"type": "object", "properties": place, "required": list(place)},
            },
            "dead_letter_id": text | {"description": "Of status 502."},
            "receipt_id": text | {"description": "Of status 504."},
        },
        "required": ["type", "title", "status", "detail"],
    }
