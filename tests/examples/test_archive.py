"""The mail archive: an old CGI behind Apache, as a guest."""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.mailflow import archive, archived, boxes, containers, pages
from examples.mailflow.app import app
from examples.mailflow.archive import Archive, Look
from rolekit.errors import GuestFailed
from rolekit.guest import HttpAnswer
from rolekit.guest.crew import guests_running
from rolekit.testing import FakeContext, set_guest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


@pytest.fixture
def legacy() -> Iterator[Path]:
    """Started as root Apache serves as nobody, who may not see into every checkout."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(shutil.copytree(archive.LEGACY, Path(folder) / "legacy"))


def item(top: bytes, sender: str = "ada@mail.example") -> boxes.Item:
    return boxes.Item(
        n=1, sender=sender, folder="inbox", delivered_at=NOON, size_bytes=len(top), top=top
    )


async def test_the_old_program_shows_the_mails_it_is_handed(legacy: Path) -> None:
    class Here(Archive):
        httpd = archive.apache(legacy)

    role, ctx = Here(), FakeContext()
    mails = [
        item(b"Subject: first\r\n\r\nFrom me\r\n"),
        item(b"Subject: <b>&\r\n\r\n", sender=""),
    ]
    mbox = await ctx.save(b"".join(map(archived.entry, mails)))

    async with guests_running(role):
        page = await role.show(Look(owner="bob & <co>@mail.example", mbox=mbox), ctx)

    assert "Archive of bob &amp; &lt;co&gt;@mail.example" in page.html
    assert "<p>2 mails</p>" in page.html
    assert page.html.index("&lt;b&gt;&amp;") < page.html.index("first")
    assert "<td>MAILER-DAEMON</td>" in page.html


async def test_another_status_is_a_fault_of_the_guest() -> None:
    class Broken:
        async def request(
            self,
            method: str,
            path: str,
            /,
            *,
            headers: Mapping[str, str] | None = None,
            body: bytes = b"",
        ) -> HttpAnswer:
            return HttpAnswer(500, (), b"<script>")

    role, ctx = Archive(), FakeContext()
    set_guest(role, "httpd", Broken())

    with pytest.raises(GuestFailed, match="answered 500"):
        await role.show(Look(owner="bob", mbox=await ctx.save(b"")), ctx)


def test_a_page_of_the_guest_may_do_nothing() -> None:
    shown = pages.untrusted("<script>alert(1)</script>")

    assert shown.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert shown.headers["x-content-type-options"] == "nosniff"


def test_a_line_that_looks_like_the_next_mail_is_quoted() -> None:
    entry = archived.entry(item(b"Subject: x\n\nFrom me\n>From you\n", sender="a b\n@x"))

    assert entry == (
        b"From ab@x Mon Mar 02 12:00:00 2026\nSubject: x\n\n>From me\n>>From you\n\n\n"
    )


def test_the_app_in_containers_is_the_other_one_with_an_archive() -> None:
    def roles(of: object) -> set[str]:
        return {role.__name__ for role in vars(of)["roles"]}

    assert roles(containers.app) == roles(app) | {"Archive"}
