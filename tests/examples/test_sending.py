"""Sending by the form and by HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from examples.mailflow.mailtext import Letter, attachments
from examples.mailflow.messages import Compose
from tests.examples.site import ATTACK, RCPT, SAMPLES, Outline, Site, open_site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(rolekit_database: str) -> AsyncIterator[Site]:
    async with open_site(rolekit_database) as opened:
        yield opened


def form(page: httpx.Response, **values: str) -> dict[str, str]:
    """Fill in the form of a page."""
    inputs = Outline(page.text).all("input")
    [key] = [field["value"] for field in inputs if field.get("name") == "key"]
    return {"key": key or "", "sender": "ada@mail.example", "recipients": RCPT} | values


async def test_a_form_becomes_a_mail_and_leads_to_its_report(site: Site) -> None:
    page = await site.http.get("/")
    values = form(
        page, recipients=f"{RCPT}, eve@x.example", subject="Grüße ✉", text="Hallo\r\n.\r\n"
    )

    answer = await site.http.post("/", data=values, files={"files": ("ä.txt", b"\x00\xff")})

    assert answer.status_code == 303
    assert answer.headers["location"] == "/mail/m1"
    [mail] = site.client.sent
    assert isinstance(mail, Compose)
    assert (mail.sender, mail.recipients) == ("ada@mail.example", [RCPT, "eve@x.example"])
    raw = site.client.blobs[mail.raw.id]
    letter = Letter.read(raw)
    assert (letter.subject, letter.text.strip()) == ("Grüße ✉", "Hallo\n.")
    assert [(part.name, part.data) for part in attachments(raw)] == [("ä.txt", b"\x00\xff")]
    assert b"\n" not in raw.replace(b"\r\n", b"")


async def test_the_same_form_sent_twice_is_the_same_mail(site: Site) -> None:
    values = form(await site.http.get("/"), subject="once")

    for _ in range(2):
        await site.http.post("/", data=values, files={"files": ("a.bin", b"1")})

    first, second = site.client.blobs.values()
    assert first == second


async def test_a_file_can_be_the_mail_byte_for_byte(site: Site) -> None:
    values = form(await site.http.get("/"), as_is="1")

    await site.http.post("/", data=values, files={"files": ("m.eml", SAMPLES["bare LF"])})

    assert list(site.client.blobs.values()) == [SAMPLES["bare LF"]]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"sender": "not an address"}, "sender"),
        ({"sender": "a@b\r\nBcc: x@y"}, "sender"),
        ({"recipients": ""}, "recipients"),
        ({"recipients": f"{RCPT}, <x>"}, "recipients"),
        ({"recipients": ATTACK}, "recipients"),
        ({"recipients": " ".join(f"p{n}@x" for n in range(1001))}, "recipients"),
        ({"as_is": "1"}, "files"),
        ({"key": "1-2"}, "files"),
    ],
)
async def test_a_form_with_a_mistake_comes_back_with_it_and_sends_nothing(
    site: Site, values: dict[str, str], field: str
) -> None:
    typed = form(await site.http.get("/"), subject="kept", text="kept too") | values

    answer = await site.http.post("/", data=typed)

    assert answer.status_code == 422
    assert site.client.sent == []
    outline = Outline(answer.text)
    [invalid] = [attrs for _, attrs in outline.tags if attrs.get("aria-invalid") == "true"]
    assert invalid["name"] == field
    assert f"{field}-error" in (invalid["aria-describedby"] or "")
    assert 'role="alert"' in answer.text
    assert 'value="kept"' in answer.text
    assert ">kept too</textarea>" in answer.text
    assert "<script>alert" not in answer.text


async def test_a_subject_cannot_add_headers(site: Site) -> None:
    values = form(await site.http.get("/"), subject="x\r\nBcc: eve@mail.example\r\n\r\nbody")

    await site.http.post("/", data=values)

    [raw] = site.client.blobs.values()
    assert b"\r\nBcc:" not in raw


async def test_a_form_of_another_site_is_refused(site: Site) -> None:
    values = form(await site.http.get("/"))

    answer = await site.http.post("/", data=values, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403
    assert site.client.sent == []


async def test_raw_bytes_are_sent_as_they_are_and_the_place_of_the_report_is_told(
    site: Site,
) -> None:
    raw = SAMPLES["all bytes but CR and LF"]

    answer = await site.http.post(
        "/mail/raw", params={"sender": "a@x", "to": f"{RCPT},b@x"}, content=raw
    )

    assert answer.status_code == 202
    assert answer.json() == {"id": "m1"}
    assert answer.headers["location"] == "/mail/m1"
    [mail] = site.client.sent
    assert isinstance(mail, Compose)
    assert mail.recipients == [RCPT, "b@x"]
    assert list(site.client.blobs.values()) == [raw]


async def test_programs_keep_the_bytes_first_and_send_the_envelope_as_json(site: Site) -> None:
    kept = await site.http.post("/letters", content=SAMPLES["bare LF"])
    body = {"sender": "", "recipients": [RCPT], "raw": kept.json()}

    answer = await site.http.post("/mail", json=body)

    assert kept.status_code == 201
    assert answer.status_code == 202
    assert site.client.sent == [msgspec.convert(body, Compose)]


@pytest.mark.parametrize(
    ("recipients", "status"),
    [
        ([], 422),
        (["x"], 422),
        (["a@b\r\nc"], 422),
        ([f"p{n}@x" for n in range(1001)], 422),
        ([1], 400),
    ],
)
async def test_programs_are_told_of_bad_recipients(
    site: Site, recipients: list[object], status: int
) -> None:
    body = {"sender": "a@x", "recipients": recipients, "raw": {"id": "b", "size_bytes": 1}}

    answer = await site.http.post("/mail", json=body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert site.client.sent == []
