"""An app whose handlers log, by structlog and by the standard library."""

from __future__ import annotations

import asyncio
import logging

import structlog

from rolekit import App, Message, Secret, WorkerRole, handle

log = structlog.get_logger("spoken")


class Say(Message):
    """Logged in the handler."""

    word: str
    secret: str = ""


class Speaker(WorkerRole):
    """Logs each message, at two levels and from three places."""

    password: Secret = Secret("hush")

    @handle
    async def say(self, say: Say) -> None:
        log.info("said", word=say.word, password=self.password)
        log.debug("whispered", word=say.word)
        await asyncio.create_task(self._echo(say.word))

    async def _echo(self, word: str) -> None:
        logging.getLogger("elsewhere").warning("echo %s", word)
        logging.getLogger("elsewhere").info("with %s", self.password)
        log.info("nested", settings={"all": [self.password]})

    @handle
    def shout(self, say: Say) -> None:
        log.info("shouted", word=say.word)


app = App("spoken", roles=[Speaker])
