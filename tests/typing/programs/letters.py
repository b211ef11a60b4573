"""Program 1: a split within a split, two gathers, an SMTP listener and a live page."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator

from rolekit import (
    App,
    Backoff,
    Blob,
    Client,
    Context,
    Hole,
    Message,
    Receipt,
    Reply,
    Run,
    Scale,
    State,
    WebRole,
    WorkerRole,
    field,
    gather,
    handle,
    web,
)
from tests.typing.programs.standins import TemporaryFailure, pictures, smtp_server


class Issue(Message, name="letters.issue", version=2, aliases=("newsletter.issue",)):
    editor: str
    readers: list[str]
    text: Blob

    @classmethod
    def upgrade(cls, fields: dict[str, object], version: int) -> dict[str, object]:
        return {"editor": "unknown", **fields} if version < 2 else fields


class Letter(Message):
    reader: str
    text: Blob


class Picture(Message):
    data: Blob


class Judgement(Message):
    is_fit: bool


class Posting(Message):
    reader: str
    text: Blob


class Posted(Message):
    reader: str


class Returned(Message):
    reader: str
    why: str


class Progress(Reply):
    done: int
    of: int


class Summary(Reply):
    lines: list[str]


class Tally(State, name="letters.tally", expires_s=86_400):
    lines: list[str] = field(default_factory=list)


class Printer(WorkerRole):
    @handle
    async def letters(self, issue: Issue) -> AsyncIterator[Letter]:
        for reader in issue.readers:
            yield Letter(reader=reader, text=issue.text)


class Censor(WorkerRole):
    concurrency = 4

    @handle
    async def open(self, letter: Letter, ctx: Context) -> AsyncIterator[Picture]:
        for data in pictures(await ctx.load(letter.text)):
            yield Picture(data=await ctx.save(data))

    @handle(timeout_s=120)
    async def look(self, picture: Picture, ctx: Context) -> Judgement:
        return Judgement(is_fit=b"!" not in await ctx.load(picture.data))

    @gather
    async def decide(self, letter: Letter, seen: list[Judgement]) -> Posting | Returned:
        if all(judgement.is_fit for judgement in seen):
            return Posting(reader=letter.reader, text=letter.text)
        return Returned(reader=letter.reader, why="picture")


class Postman(WorkerRole):
    instances = 4
    concurrency = 100
    scale = Scale(min=1, max=50, target_age_s=5)
    domain: str = "example.org"

    @handle(retry=[Backoff(on=TemporaryFailure, attempts=8), Backoff(attempts=2)], timeout_s=30)
    async def post(self, posting: Posting, ctx: Context) -> Posted | Returned:
        if not posting.reader.endswith("@" + self.domain):
            return Returned(reader=posting.reader, why="no such reader")
        text = await ctx.load(posting.text)
        ctx.write("insert into doormat values ($1, $2)", posting.reader, text, expect=1)
        return Posted(reader=posting.reader)


class Clerk(WorkerRole):
    @gather(deadline_s=3600)
    async def sum_up(
        self, issue: Issue, run: Run[Posted | Returned | Hole], ctx: Context
    ) -> AsyncIterator[Progress | Summary]:
        tally = await ctx.state(Tally)
        for part in run:
            match part:
                case Posted():
                    tally.lines.append(f"{part.reader}: posted")
                case Returned():
                    tally.lines.append(f"{part.reader}: returned, {part.why}")
                case Hole():
                    tally.lines.append(f"lost: {part.detail}")
        yield Progress(done=len(tally.lines), of=len(issue.readers))
        if run.is_last:
            yield Summary(lines=tally.lines)


class Desk(WorkerRole):
    bind = "127.0.0.1:2525"

    async def run(self, client: Client) -> None:
        async for editor, readers, text in smtp_server(self.listening):
            await client.send(
                Issue(editor=editor, readers=readers, text=await client.save(text))
            )


class Front(WebRole):
    @web.post("/issues", status=202)
    async def publish(self, issue: Issue) -> Receipt:
        return await self.client.send(issue)

    @web.get("/issues/{id}/live")
    def live(self, id: str) -> AsyncIterator[Progress | Summary]:  # noqa: A002 - as in the path
        return self.client.follow(id, Progress, until=Summary)


app = App("letters", roles=[Front, Desk, Printer, Censor, Postman, Clerk])
