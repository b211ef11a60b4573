"""What reaches a route's method, and what is refused before."""

from __future__ import annotations

from uuid import UUID

import pydantic
import pytest

from rolekit import web
from rolekit.roles.web import WebRole
from tests.unit.fakes_web import FakeClient
from tests.unit.web_front import Front, Mail, calling

pytestmark = pytest.mark.anyio

UNIT = UUID(int=7)


async def test_path_and_query_are_converted_by_annotation() -> None:
    async with calling(Front()) as http:
        answer = await http.get(f"/numbers/12?unit={UNIT}&page=3&size=4")

    assert answer.text == f"12 {UNIT} 3 4"


async def test_a_query_parameter_that_is_not_sent_has_its_default() -> None:
    async with calling(Front()) as http:
        answer = await http.get(f"/numbers/12?unit={UNIT}")

    assert answer.text == f"12 {UNIT} 1 None"


async def test_every_wrong_value_of_the_query_is_named() -> None:
    async with calling(Front()) as http:
        answer = await http.get("/numbers/12?page=three&size=null")

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["path"] for error in answer.json()["errors"]] == [
        "query.unit",
        "query.page",
        "query.size",
    ]


async def test_a_wrong_field_of_a_body_is_named_by_its_path() -> None:
    client = FakeClient()
    async with calling(Front(), client) as http:
        answer = await http.post("/mail", json={"sender": "a@x", "recipients": ["b@x", 5]})

    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"path": "body.recipients[1]", "message": "Expected str, got int"}
    ]
    assert client.sent == []


@pytest.mark.parametrize("body", [b"{", b"", b'"\xff"', b"[" * 50_000])
async def test_a_body_that_is_not_json_is_bad_input(body: bytes) -> None:
    async with calling(Front()) as http:
        answer = await http.post("/mail", content=body)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "body"


async def test_fields_nested_too_deep_in_an_unknown_place_are_bad_input() -> None:
    deep = b'{"sender": "a", "recipients": [], "more": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    async with calling(Front()) as http:
        answer = await http.post("/mail", content=deep)

    assert answer.status_code == 400


async def test_a_body_of_another_kind_is_unsupported() -> None:
    async with calling(Front()) as http:
        form = await http.post("/mail", data={"sender": "a@x"})
        packed = await http.post(
            "/mail",
            content=b"{}",
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )

    assert [form.status_code, packed.status_code] == [415, 415]


async def test_json_with_a_suffix_and_a_charset_is_read() -> None:
    async with calling(Front()) as http:
        answer = await http.post(
            "/notes",
            content=b'{"text": "hi"}',
            headers={"Content-Type": "application/note+json; charset=utf-8"},
        )

    assert answer.status_code == 201
    assert answer.json() == {"text": "hi"}


async def test_bytes_are_the_body_as_it_came() -> None:
    async with calling(Front()) as http:
        answer = await http.put("/raw", content=b"\x00\xff")

    assert answer.json() == {"done": 2}


async def test_a_request_can_be_streamed_beside_the_query() -> None:
    client = FakeClient()
    async with calling(Front(), client) as http:
        answer = await http.post("/stream?title=long", content=b"x" * 1000)

    assert answer.json() == {"done": 1000}
    assert [getattr(sent, "text", None) for sent in client.sent] == ["long"]


class _Person(pydantic.BaseModel):
    name: str
    ages: list[int]


class _People(WebRole):
    @web.post("/people")
    async def add(self, person: _Person) -> _Person:
        return person


async def test_a_pydantic_model_is_a_body_and_an_answer() -> None:
    async with calling(_People()) as http:
        good = await http.post("/people", json={"name": "Ada", "ages": [36]})
        bad = await http.post("/people", json={"ages": [36, "old"]})

    assert good.json() == {"name": "Ada", "ages": [36]}
    assert [error["path"] for error in bad.json()["errors"]] == ["body.name", "body.ages[1]"]


async def test_classes_made_inside_a_function_are_found() -> None:
    class Local(Mail):
        pass

    class Inside(WebRole):
        @web.post("/local")
        async def local(self, local: Local) -> Local:
            return local

    async with calling(Inside()) as http:
        answer = await http.post("/local", json={"sender": "a@x", "recipients": []})

    assert answer.json() == {"sender": "a@x", "recipients": []}
