"""A spam check that only stands in: a few weighted rules, no learning, no network.

It shows where a real one goes, and gives the demo some junk. Do not use it on real mail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.mailflow.mailtext import Letter
from examples.mailflow.messages import Copy, Screened
from rolekit import Context, WorkerRole, handle

if TYPE_CHECKING:
    from collections.abc import Callable

JUNK_FROM = 5.0
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The text that every spam filter must take for spam; in two halves, or this file is spam."""

_LINK = re.compile(r"https?://", re.IGNORECASE)
_MONEY = re.compile(r"\b(lottery|inheritance|wire transfer|million euros)\b", re.IGNORECASE)
_HURRY = re.compile(r"\b(act now|urgent|final notice|limited time)\b", re.IGNORECASE)
_LOUD_LETTERS = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """Adds `weight` to the score of letters it hits."""

    name: str
    weight: float
    hits: Callable[[Letter], bool]


def _is_loud(letter: Letter) -> bool:
    subject = letter.subject
    return subject.isupper() and sum(map(str.isalpha, subject)) >= _LOUD_LETTERS


RULES = (
    Rule("gtube", 1000, lambda letter: GTUBE in letter.text),
    Rule("money", 2.5, lambda letter: bool(_MONEY.search(letter.subject + letter.text))),
    Rule("hurry", 1.5, lambda letter: bool(_HURRY.search(letter.subject + letter.text))),
    Rule("loud subject", 1.5, _is_loud),
    Rule("many links", 2, lambda letter: len(_LINK.findall(letter.text)) >= 10),
    Rule("no date", 0.5, lambda letter: not letter.date),
    Rule("no sender", 1, lambda letter: not letter.sender),
)


def screen(raw: bytes) -> tuple[float, list[str]]:
    """Return the score of a message and the names of the rules that hit it."""
    letter = Letter.read(raw)
    hits = [rule for rule in RULES if rule.hits(letter)]
    return sum(rule.weight for rule in hits), [rule.name for rule in hits]


class SpamCheck(WorkerRole):
    """Scores each copy; what the score means is decided later."""

    @handle
    async def check(self, copy: Copy, ctx: Context) -> Screened:
        """Score one copy: a direct step, since nothing but its output leaves it."""
        score, rules = screen(await ctx.load(copy.slip.raw))
        return Screened(slip=copy.slip, score=score, rules=rules)
