"""SpamAssassin in the place of the old filter: `spamd` as a guest, in a protocol of ours.

The role has the name of the one that it stands for, so that an app has either.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from examples.mailflow.messages import Copy, Screened
from rolekit import Context, Retry, VMRole, handle
from rolekit.errors import GuestFailed
from rolekit.guest import Guest, Limits, Process, Serves, Session

SEEN_BYTES = 256 * 1024
"""More of a mail is not looked at; spamc has such a limit too."""
KNOWN = 1000
"""Letters whose score is kept: a mail to hundreds of people is one letter."""
TEMPFAIL = 75

_STATUS = re.compile(rb"SPAMD/\d+\.\d+ (\d+) [ -~]*")
_VERDICT = re.compile(rb"Spam: (?:True|False|Yes|No) ; (-?\d+(?:\.\d+)?) / -?\d+(?:\.\d+)?")
_RULES = re.compile(rb"(?:[A-Z0-9_]+(?:,[A-Z0-9_]+)*)?\s*")


class Spamd(Session):
    """One connection to spamd, for one question, as it wants it.

    Source: spamd/PROTOCOL of SpamAssassin 4.0.
    """

    async def check(self) -> None:
        """See that it answers a ping."""
        answer = await self._asked(b"PING SPAMC/1.5\r\n\r\n")
        if not answer.rstrip().endswith(b" 0 PONG"):
            raise GuestFailed(f"spamd answered {answer[:80]!r} to a ping; PONG was expected.")

    async def symbols(self, mail: bytes) -> tuple[float, list[str]]:
        """Return the score of a mail, and the names of the rules that hit.

        Raises:
            Retry: spamd asks to be asked again.
            GuestFailed: It did not answer, or not as its protocol has it.
        """
        head = b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(mail)
        return understood(await self._asked(head + mail))

    async def _asked(self, question: bytes) -> bytes:
        await self.write(question)
        self.end_writing()
        return await self.read_to_end()


class SpamCheck(VMRole):
    """Scores each copy; what the score means is decided later."""

    concurrency = 4
    spamd = Guest(
        Serves(
            Spamd,
            "spamd",
            "--socketpath={socket}",
            "--local",  # asks nobody on the network
            "--nouser-config",
            "--cf=use_bayes 0",  # it would learn, and nothing that a guest learns stays
            "--syslog=stderr",
            "--min-children=1",
            "--max-children=2",
            in_flight=2,
        ),
        host=Process(),
        limits=Limits(time_s=60, start_s=60, memory_mb=1024, output_mb=1),
    )

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()

    @handle(timeout_s=120)
    async def check(self, copy: Copy, ctx: Context) -> Screened:
        """Score one copy; of a letter that was scored before, it is known."""
        score, rules = self._known.get(copy.slip.raw.id) or await self._scored(copy, ctx)
        return Screened(slip=copy.slip, score=max(0.0, score), rules=rules)

    async def _scored(self, copy: Copy, ctx: Context) -> tuple[float, list[str]]:
        raw = await ctx.load(copy.slip.raw)
        found = await self.spamd.symbols(raw[:SEEN_BYTES])
        self._known[copy.slip.raw.id] = found
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return found


def understood(answer: bytes) -> tuple[float, list[str]]:
    """Read an answer of spamd to SYMBOLS.

    Raises:
        Retry: Its code says to try again.
        GuestFailed: Another code, or not what the protocol has.
    """
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first.strip())
    if status is not None and int(status[1]) == TEMPFAIL:
        raise Retry(f"spamd: {first.decode(errors='backslashreplace')}")
    verdicts = [found for line in lines if (found := _VERDICT.fullmatch(line))]
    lengths = [line.split(b":")[1].strip() for line in lines if line.startswith(b"Content-len")]
    is_whole = lengths == [b"%d" % len(body)] and _RULES.fullmatch(body) is not None
    if status is None or int(status[1]) or len(verdicts) != 1 or not is_whole:
        raise GuestFailed(f"spamd answered {answer[:80]!r}; a verdict was expected.")
    return float(verdicts[0][1]), [
        rule for rule in body.decode("ascii").strip().split(",") if rule
    ]
