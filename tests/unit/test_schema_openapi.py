"""The routes of WebRoles as OpenAPI: valid, and true to what they answer."""

# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import importlib
import json
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rolekit import App, Message, Receipt, Reply, WebRole, WorkerRole, handle, web
from rolekit.errors import ConfigError
from rolekit.schema import openapi
from rolekit.testing import run_app
from tests.unit.json_schemas import complaints

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio
PROGRAMS = [
    "examples.mailflow.app",
    *(
        f"tests.typing.programs.{name}"
        for name in ("letters", "subtitles", "bookings", "rates")
    ),
]


class Question(Message):
    """Somebody asks."""

    text: str
    at: tuple[int, int] = (0, 0)


class Answer(Reply):
    text: str


class Unknown(Reply):
    why: str


class Oracle(WorkerRole):
    @handle
    async def answer(self, question: Question) -> Answer | Unknown:
        return Answer(text=question.text) if question.text else Unknown(why="nothing asked")


class Front(WebRole):
    """The way in."""

    mounts: ClassVar[Mapping[str, Any]] = {"/old": Starlette()}

    @web.post("/ask")
    async def ask(self, question: Question) -> Answer | Unknown:
        """Ask, and wait."""
        return await self.client.ask(question, Answer, Unknown)

    @web.post("/questions/{number:int}", status=202)
    async def send(self, number: int, question: Question, page: int = 1) -> Receipt | None:
        return await self.client.send(question) if number else None

    @web.get("/answers/{number}/{rest:path}")
    async def follow(
        self, number: UUID, rest: str, since: float | None = None
    ) -> AsyncIterator[Answer]:
        yield Answer(text="")

    @web.put("/raw")
    async def raw(self, data: bytes) -> Response:
        return PlainTextResponse(data)

    @web.post("/stream")
    async def stream(self, request: Request) -> None: ...


class Other(WebRole):
    bind = "127.0.0.1:8001"

    @web.post("/ask")
    async def ask(self, question: Question) -> None: ...


oracle = App("oracle", roles=[Front, Oracle])


def made(app: App = oracle, role: str = "") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(openapi(app, release="1", role=role)))
    return document


def variables_of(path: str) -> list[str]:
    """Return what stands between braces, as it stands: the validator takes {number:int} too."""
    return sorted(re.findall(r"{([^}]*)}", path))


def names_in_path(operation: dict[str, Any]) -> list[str]:
    return [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]


@pytest.mark.parametrize("program", [*PROGRAMS, ""])
def test_the_document_is_valid(program: str) -> None:
    app = importlib.import_module(program).app if program else oracle

    document = made(app)

    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["info"]["title"] == app.name
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert variables_of(path) == sorted(names_in_path(operation))


def test_parameters_and_bodies_are_those_of_the_methods() -> None:
    paths = made()["paths"]

    send = paths["/questions/{number}"]["post"]
    assert [(p["name"], p["in"], p.get("required", False)) for p in send["parameters"]] == [
        ("number", "path", True),
        ("page", "query", False),
        ("Idempotency-Key", "header", False),
    ]
    assert send["parameters"][1]["schema"] == {"type": "integer", "default": 1}
    assert send["requestBody"]["required"] is True
    follow = paths["/answers/{number}/{rest}"]["get"]
    assert [p["name"] for p in follow["parameters"]] == ["number", "rest", "since"]
    assert follow["parameters"][0]["schema"] == {"type": "string", "format": "uuid"}
    assert "requestBody" not in follow
    assert paths["/raw"]["put"]["requestBody"] == {"content": {"*/*": {}}}
    assert paths["/stream"]["post"]["requestBody"] == {"content": {"*/*": {}}}


def test_answers_are_by_status() -> None:
    paths = made()["paths"]

    statuses = {
        f"{method} {path}": set(operation["responses"]) - {"default"}
        for path, methods in paths.items()
        for method, operation in methods.items()
    }
    assert statuses == {
        "post /ask": {"200"},
        "post /questions/{number}": {"202", "204"},
        "get /answers/{number}/{rest}": {"200"},
        "put /raw": {"200"},
        "post /stream": {"204"},
    }
    (media,) = paths["/answers/{number}/{rest}"]["get"]["responses"]["200"]["content"]
    assert media == "text/event-stream"
    assert paths["/ask"]["post"]["summary"] == "Ask, and wait."


async def test_what_is_answered_fits_what_is_written() -> None:
    document = made()

    def fits(operation: dict[str, Any], answer: Any) -> bool:  # noqa: ANN401 - httpx
        said = operation["responses"].get(str(answer.status_code))
        if said is None:
            said = document["components"]["responses"]["Problem"]
        media = answer.headers["content-type"].partition(";")[0]
        schema = said["content"][media]["schema"]
        whole = {"components": document["components"], **schema}
        return complaints(whole, answer.json(), "Draft202012Validator") == []

    async with run_app(oracle) as running, running.http(Front) as http:
        ask = document["paths"]["/ask"]["post"]
        send = document["paths"]["/questions/{number}"]["post"]
        for body in ({"text": "why"}, {"text": ""}, {"text": 1}):
            assert fits(ask, await http.post("/ask", json=body))
        sent = await http.post("/questions/1", json={"text": "a"})

    assert sent.status_code == 202
    assert fits(send, sent)
    assert "Location" in sent.headers
    assert "Location" in send["responses"]["202"]["headers"]


def test_what_is_mounted_is_named() -> None:
    assert "Starlette below /old of Front" in made()["info"]["description"]


def test_two_roles_on_one_path_are_told_apart_by_name() -> None:
    app = App("two", roles=[Front, Other, Oracle])

    with pytest.raises(ConfigError, match="Front and Other both answer POST /ask"):
        made(app)

    assert list(made(app, "Other")["paths"]) == ["/ask"]


@pytest.mark.parametrize(
    ("app", "role", "says"),
    [
        (App("mute", roles=[Oracle]), "", "mute has no WebRole"),
        (oracle, "Oracle", "no WebRole 'Oracle'. Those it has are Front"),
    ],
)
def test_an_app_without_the_routes_asked_for_says_so(app: App, role: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        made(app, role)
