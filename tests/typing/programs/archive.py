"""Guests that listen, and guests with folders: each is typed by its protocol."""

from __future__ import annotations

from typing import assert_type

from rolekit import App, Message, Reply, VMRole, handle
from rolekit.errors import Reject
from rolekit.guest import (
    FileResult,
    Files,
    Guest,
    Http,
    HttpAnswer,
    Limits,
    Lmtp,
    MailReply,
    Process,
    Sandbox,
    Serves,
    Session,
    Smtp,
)


class Letter(Message):
    """Something to keep."""

    sender: str
    readers: list[str]
    text: str


class Kept(Reply):
    """Where it is kept."""

    page: str
    score: int


class Judge(Session):
    """Says how bad a text is."""

    async def score(self, text: bytes) -> int:
        await self.write(b"SCORE %d\n" % len(text) + text)
        self.end_writing()
        return int(await self.read_to_end())


class Archive(VMRole):
    """Old programs, which nobody will rewrite."""

    pages = Guest(Http("httpd", "-p", "{port}", health="/", in_flight=4), host=Sandbox())
    relay = Guest(Smtp("relay", "{socket}"), host=Process())
    boxes = Guest(Lmtp("boxes", port=24), host=Sandbox(), pool=2)
    judge = Guest(Serves(Judge, "judged", "{port}"), host=Process(), limits=Limits(time_s=5))
    scan = Guest(Files("scan", "{in}", "{out}"), host=Sandbox())

    @handle
    async def keep(self, letter: Letter) -> Kept:
        text = letter.text.encode()
        score = await self.judge.score(text)
        assert_type(score, int)
        scanned = await self.scan.drop(text, name="letter.txt")
        assert_type(scanned, FileResult)
        for server in (self.relay, self.boxes):
            replies = await server.send(letter.sender, letter.readers, scanned.body)
            assert_type(replies, list[MailReply])
            for reply in replies:
                reply.check()
        answer = await self.pages.request("POST", "/letters", headers={"A": "b"}, body=text)
        assert_type(answer, HttpAnswer)
        if answer.status >= 400:
            raise Reject(f"the archive says {answer.status}")
        return Kept(page=answer.header("location"), score=score)


app = App("archive", roles=[Archive])
