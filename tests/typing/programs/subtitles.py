"""Program 2: a guest does the work, a gather streams it in order."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request

from rolekit import (
    App,
    Backoff,
    Blob,
    Context,
    Hole,
    Message,
    Receipt,
    Reply,
    Run,
    VMRole,
    WebRole,
    WorkerRole,
    gather,
    handle,
    web,
)
from rolekit.guest import Exec, Guest, Limits, Lines, Process, Sandbox
from tests.typing.programs.standins import cut


class Film(Message):
    title: str
    reel: Blob


class Scene(Message):
    sound: Blob


class Speech(Message):
    text: str


class Caption(Reply):
    number: int
    text: str


class Subtitled(Reply):
    title: str
    scenes: int


class Cutter(WorkerRole):
    concurrency = 1

    @handle(timeout_s=600)
    async def scenes(self, film: Film, ctx: Context) -> AsyncIterator[Scene]:
        async for sound in cut(await ctx.load(film.reel)):
            yield Scene(sound=await ctx.save(sound, media_type="audio/wav"))


class Listener(VMRole):
    instances = 8
    concurrency = 4
    recogniser = Guest(
        Exec("recognise", "-"), host=Sandbox(), limits=Limits(time_s=60, memory_mb=800), pool=4
    )
    speller = Guest(Lines("spell"), host=Process())

    @handle(retry=Backoff(attempts=3), timeout_s=90)
    async def listen(self, scene: Scene, ctx: Context) -> Speech:
        done = await self.recogniser.run(await ctx.load(scene.sound), "-l", "eng")
        return Speech(text=(await self.speller.ask(done.stdout)).decode())


class Editor(WorkerRole):
    @gather(deadline_s=900)
    async def stream(
        self, film: Film, run: Run[Speech | Hole]
    ) -> AsyncIterator[Caption | Subtitled]:
        for number, part in enumerate(run, run.offset + 1):
            text = part.text if isinstance(part, Speech) else f"[inaudible: {part.detail}]"
            yield Caption(number=number, text=text)
        if run.is_last:
            yield Subtitled(title=film.title, scenes=run.offset + len(run))


class Cinema(WebRole):
    @web.post("/films", status=202)
    async def upload(self, request: Request, title: str = "untitled") -> Receipt:
        reel = await self.client.save(request.stream())
        return await self.client.send(Film(title=title, reel=reel))

    @web.get("/films/{id}/captions")
    def captions(self, id: str) -> AsyncIterator[Caption | Subtitled]:  # noqa: A002 - as in the path
        return self.client.follow(id, Caption, until=Subtitled)


app = App("subtitles", roles=[Cinema, Cutter, Listener, Editor])
