"""Program 5: what Celery calls chain, group, chord and beat."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import attrs
from pydantic import BaseModel

from rolekit import (
    App,
    Backoff,
    Blob,
    Context,
    Message,
    Rate,
    Reply,
    WorkerRole,
    cron,
    every,
    gather,
    handle,
)
from tests.typing.programs.standins import download, montage, shrink


class Exhibition(Message):
    urls: list[str]


class Fetch(Message):
    url: str


@dataclass(frozen=True)
class Original:
    data: bytes


class Thumb(Message):
    data: Blob


class Poster(Reply):
    data: Blob


class Digest(Message):
    day: str


@attrs.frozen
class Swept:
    count: int


class Audited(BaseModel):
    count: int


class Gallery(WorkerRole):
    @handle
    async def group(self, exhibition: Exhibition) -> list[Fetch]:
        return [Fetch(url=url) for url in exhibition.urls]

    @handle(retry=Backoff(on=OSError), rate=Rate(10, per_s=1), timeout_s=60)
    def fetch(self, fetch: Fetch) -> Original:
        return Original(data=download(fetch.url))

    @handle
    async def shrink(self, original: Original, ctx: Context) -> Thumb | None:
        small = shrink(original.data)
        return Thumb(data=await ctx.save(small)) if small else None

    @gather
    async def poster(self, exhibition: Exhibition, thumbs: list[Thumb], ctx: Context) -> Poster:
        whole = montage([await ctx.load(thumb.data) for thumb in thumbs])
        return Poster(data=await ctx.save(whole, media_type=f"x-{len(exhibition.urls)}"))


class Nightly(WorkerRole):
    @cron("0 3 * * *", tz="Europe/Berlin")
    async def due(self, ctx: Context) -> Digest:
        return Digest(day=ctx.sent_at.date().isoformat())

    @handle(timeout_s=3600)
    async def digest(self, digest: Digest, ctx: Context) -> None:
        ctx.write("insert into daily select $1, count(*) from prints", digest.day)

    @every(30)
    def sweep(self) -> Iterator[Swept]:
        yield Swept(count=1)

    @handle
    def swept(self, swept: Swept) -> Audited:
        return Audited(count=swept.count)

    @handle
    def audited(self, audited: Audited) -> None:
        audited.model_dump()


app = App("gallery", roles=[Gallery, Nightly], names={Original: "gallery.original"})
