"""Runs a program once a call, in a container that waits for it; see `gate`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.errors import GuestFailed
from rolekit.guest.current import current_message
from rolekit.guest.hosts import MIB
from rolekit.guest.once import Output
from rolekit.guest.speaking import run_through

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.guest.hosts import Launch, Starts
    from rolekit.guest.limits import Limits
    from rolekit.guest.pipes import Pipes


class Gated:
    """Runs a program once; the place of the pool is then filled anew.

    Args:
        place: "Role.attribute", for people.
        launch: Names the program.
        limits: Of the run.
        berth: Has a container that waits.
    """

    def __init__(self, place: str, launch: Launch, limits: Limits, berth: Starts) -> None:
        self._place = place
        self._launch = launch
        self._limits = limits
        self._berth = berth

    async def run_once(
        self, stdin: bytes, arguments: Sequence[str], files: Mapping[str, bytes]
    ) -> Output:
        """Run it to its end; see `Runs`."""
        pipes = self._berth.pipes(self._place, self._limits.output_mb * MIB)
        try:
            return await self._run(pipes, stdin, arguments, files)
        except BaseException:
            self._berth.kill()
            raise
        finally:
            await asyncio.shield(self._berth.clear())
            pipes.close()

    async def _run(
        self,
        pipes: Pipes,
        stdin: bytes,
        arguments: Sequence[str],
        files: Mapping[str, bytes],
    ) -> Output:
        message = current_message.get()
        pipes.begin(message)
        argv = (self._launch.command[0], *arguments)
        end = await self._berth.launch(
            self._launch, (), argv, env=message.environment(), files=files
        )
        ended, stdout = await run_through(pipes, stdin, end)
        tail = bytes(pipes.stderr.tail)
        if why := ended.why_in(self._limits):
            raise GuestFailed(f"{self._place}:{why}", status=ended.status, stderr_tail=tail)
        return Output(stdout, tail, ended.status)
