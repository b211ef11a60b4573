"""The pages, with mail in the tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from examples.mailflow.mailtext import attachments
from examples.mailflow.messages import Line, Progress, Report
from tests.examples.site import ATTACK, RCPT, SAMPLES, Outline, Site, open_site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from tests.examples.database import Tables

NAMED = frozenset({"input", "textarea", "select", "progress"})

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(rolekit_database: str) -> AsyncIterator[Site]:
    async with open_site(rolekit_database) as opened:
        yield opened


async def fill(database: Tables, raw: bytes, *, owner: str = RCPT) -> None:
    await database.letter(raw, mail_id="aa01", copies=2)
    await database.row(owner, 0, mail_id="aa01")
    await database.line(0, owner, mail_id="aa01")


async def every_page(site: Site, raw: bytes) -> list[httpx.Response]:
    await fill(site.database, raw)
    n = await site.database.connection.fetchval("select n from mail.mailbox")
    paths = ["/", "/sent", "/mailboxes", f"/mailboxes/{RCPT}", f"/messages/{n}", "/mail/aa01"]
    return [await site.http.get(path) for path in paths]


async def test_no_page_runs_anything_of_a_mail(site: Site) -> None:
    hostile = (
        f"From: {ATTACK} <a@b>\r\nSubject: {ATTACK}\r\nMessage-ID: {ATTACK}\r\n"
        f"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{ATTACK}\r\n--b\r\n"
        f"Content-Type: image/svg+xml\r\nContent-Disposition: attachment; filename={ATTACK}"
        f"\r\n\r\n{ATTACK}\r\n--b--\r\n"
    )

    for page in await every_page(site, hostile.encode()):
        assert page.status_code == 200
        assert "alert(1)</script>" not in page.text
        outline = Outline(page.text)
        assert all(script.get("src") == "/static/live.js" for script in outline.all("script"))
        assert not any(name.startswith("on") for _, attrs in outline.tags for name in attrs)
        assert not any("style" in attributes for _, attributes in outline.tags)


async def test_each_sample_has_a_page_and_comes_back_byte_for_byte(site: Site) -> None:
    for number, (name, raw) in enumerate(SAMPLES.items(), 1):
        await site.database.letter(raw, mail_id=f"m{number}", copies=1)
        await site.database.row(RCPT, 0, mail_id=f"m{number}")

        page = await site.http.get(f"/messages/{number}")
        download = await site.http.get(f"/messages/{number}/raw")

        assert page.status_code == 200, name
        assert Outline(page.text).all("h1"), name
        assert download.content == raw, name

    assert (await site.http.get(f"/mailboxes/{RCPT}")).status_code == 200


async def test_each_page_forbids_scripts_and_frames_from_elsewhere(site: Site) -> None:
    for page in await every_page(site, SAMPLES["html only"]):
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"


async def test_each_page_has_landmarks_one_heading_and_labels(site: Site) -> None:
    for page in await every_page(site, SAMPLES["twenty-five attachments"]):
        outline = Outline(page.text)
        assert outline.all("html") == [{"lang": "en"}]
        assert [len(outline.all(tag)) for tag in ("h1", "main", "header", "footer")] == [1] * 4
        assert outline.all("nav")[0]["aria-label"] == "Main"
        assert outline.all("a")[0] == {"class": "skip", "href": "#main"}
        assert len(outline.ids) == len(set(outline.ids))
        labelled = {label.get("for") for label in outline.all("label")}
        for tag, attributes in outline.tags:
            if tag in NAMED and attributes.get("type") != "hidden":
                assert attributes.get("id") in labelled
            described = (attributes.get("aria-describedby") or "").split()
            assert set(described) <= set(outline.ids)
        assert all("alt" in image for image in outline.all("img"))
        titles = re.findall(r"<title>(.*?)</title>", page.text, re.DOTALL)
        assert titles[0].endswith(" · mailflow")


async def test_the_count_of_a_report_is_told_to_those_who_do_not_see_it(site: Site) -> None:
    await fill(site.database, SAMPLES["plain"])

    outline = Outline((await site.http.get("/mail/aa01")).text)

    assert {"id": "count", "role": "status", "aria-live": "polite"} in outline.all("p")
    assert outline.all("noscript")


async def test_html_mail_is_shown_as_its_text(site: Site) -> None:
    await fill(site.database, SAMPLES["html only"])

    page = await site.http.get("/messages/1")

    assert "The HTML version." in page.text
    assert "onload" not in page.text


async def test_recipients_who_are_not_said_are_named_in_words(site: Site) -> None:
    await fill(site.database, SAMPLES["group address and comments"])

    page = await site.http.get("/messages/1")

    assert "&lt;carol@mail.example&gt;;, undisclosed recipients</dd>" in page.text


async def test_an_attachment_is_only_ever_downloaded(site: Site) -> None:
    await fill(site.database, SAMPLES["one attachment"])

    answer = await site.http.get("/messages/1/files/1")

    assert answer.content == attachments(SAMPLES["one attachment"])[0].data
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_a_file_name_cannot_break_out_of_its_header(site: Site) -> None:
    await fill(site.database, SAMPLES["odd file names"])

    for number in range(1, 6):
        answer = await site.http.get(f"/messages/1/files/{number}")
        disposition = answer.headers["content-disposition"]
        assert re.fullmatch(
            r"attachment; filename=\"[\w. -]*\"; filename\*=UTF-8''[\w.%~-]*",
            disposition,
            re.ASCII,
        )


@pytest.mark.parametrize(
    "path",
    [
        "/messages/99",
        "/messages/0",
        "/messages/99999999999999999999",
        "/messages/1/files/9",
        "/messages/1/files/0",
        "/static/front.py",
        "/static/..%2Ffront.py",
        "/mailboxes/a%00b",
        "/mail/a%00b",
    ],
)
async def test_what_is_not_there_is_404(site: Site, path: str) -> None:
    await fill(site.database, SAMPLES["plain"])

    answer = await site.http.get(path)

    assert answer.status_code in {404, 400}
    assert "Traceback" not in answer.text


async def test_a_mailbox_of_strange_letters_has_a_page_and_a_link_to_it(site: Site) -> None:
    owner = "ζω/ή?&#@mail.example"
    await fill(site.database, SAMPLES["plain"], owner=owner)

    overview = Outline((await site.http.get("/mailboxes")).text)
    [link] = [
        a["href"] for a in overview.all("a") if (a["href"] or "").startswith("/mailboxes/")
    ]
    page = await site.http.get(link or "")

    assert page.status_code == 200
    assert "Lunch on Friday?" in page.text


async def test_long_lists_have_further_pages(site: Site) -> None:
    await site.database.letter(SAMPLES["plain"], mail_id="aa01", copies=101)
    for number in range(101):
        await site.database.row(f"p{number:03}@mail.example", number, mail_id="aa01")
        await site.database.row(RCPT, number, mail_id="aa01")

    boxes = await site.http.get("/mailboxes")
    box = await site.http.get(f"/mailboxes/{RCPT}")

    for page, wanted in ((boxes, "p100@mail.example"), (box, 'href="/messages/2"')):
        [following] = [a["href"] for a in Outline(page.text).all("a") if a.get("rel") == "next"]
        assert wanted not in page.text
        assert wanted in (await site.http.get(str(page.url.join(following or "")))).text


async def test_the_live_report_is_a_stream_of_events(site: Site) -> None:
    line = Line(number=0, rcpt=RCPT, outcome="delivered")
    report = Report(of=1, delivered=1, junk=0, bounced=0, lost=0)
    site.client.replies["m1"] = [Progress(done=1, of=1, lines=[line]), report]

    answer = await site.http.get("/mail/m1/live")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert re.findall(r"^event: (\w+)$", answer.text, re.MULTILINE) == ["Progress", "Report"]
    data = re.findall(r"^data: (.*)$", answer.text, re.MULTILINE)
    assert msgspec.json.decode(data[0], type=Progress).lines == [line]


async def test_a_report_shows_what_has_closed_before_the_script_runs(site: Site) -> None:
    await fill(site.database, SAMPLES["plain"])

    page = await site.http.get("/mail/aa01")

    outline = Outline(page.text)
    [live] = [attributes for _, attributes in outline.tags if attributes.get("id") == "live"]
    assert (live["data-done"], live["data-of"]) == ("1", "2")
    assert "1 of 2 delivered or bounced, 1 under way" in page.text
    [chip] = [one for one in outline.all("li") if one.get("id") == "underway"]
    assert "hidden" not in chip
    [part] = [one for one in outline.all("rect") if one.get("class") == "delivered"]
    assert (part["x"], part["width"]) == ("0", "1")
    assert RCPT in page.text


async def test_the_page_of_a_mail_that_nobody_split_yet_waits(site: Site) -> None:
    page = await site.http.get("/mail/bb02")

    assert page.status_code == 200
    assert "waiting to be split" in page.text


async def test_style_and_script_are_served_with_their_types(site: Site) -> None:
    kinds = {
        name: (await site.http.get(f"/static/{name}")).headers["content-type"]
        for name in ("style.css", "live.js", "icon.svg")
    }

    assert kinds == {
        "style.css": "text/css; charset=utf-8",
        "live.js": "text/javascript; charset=utf-8",
        "icon.svg": "image/svg+xml",
    }
