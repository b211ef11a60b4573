"""How many instances a role should have: a decision from what was measured.

up       as soon as what waits would not begin within the target: to as many as carry what
         arrives and get through what waits in half of it.
down     when, for a whole calm time, fewer would have done with a quarter to spare; at once
         to the most that were needed in that time.
between  nothing changes. That band, and not going back to a number that was too small under
         such a load before, keep a constant load from moving anything.

Time comes in as an argument.

Source: the stabilisation window of Kubernetes' horizontal autoscaler, which goes down to the
highest number of a while; Azure's autoscale, which asks before it goes down what would be
asked of those that stay; KEDA issues 1325 and 356 on work in hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rolekit.model.policy import Scale

_REMEMBERED = 16
"""Loads that were too much for a number of instances: so many are kept."""
_EXACT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Damping:
    """How eagerly numbers follow the load; the defaults are right for everything but tests.

    Attributes:
        near: Share of the target from which on the oldest is near it.
        aim: What waits is got through in this share of the target.
        haste: The target counts as this share of itself while a position stands still.
        spare: Going down, those that stay have this share of themselves to spare.
        rest_s: After a change, at least until the next one up: what started is measured first.
        calm_s: So long fewer must have been enough before there are fewer;
        calm_messages: or as long as one instance takes for so many messages,
        calm_most_s: but no longer.
        moment: It is not worth while to go down before this share of it has passed, if then
            half would do.
        step: Not less than this share of them go at once: each move costs something.
        remember_s: So long a load is remembered that was too much for a number of instances,
        relief: which is not gone back to until less than this share of it arrives.
    """

    near: float = 0.6
    aim: float = 0.5
    haste: float = 0.25
    spare: float = 0.25
    rest_s: float = 3
    calm_s: float = 30
    calm_messages: int = 20
    calm_most_s: float = 300
    moment: float = 0.3
    step: float = 0.1
    relief: float = 0.5
    remember_s: float = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is known of a role at one moment.

    Attributes:
        wanted: Instances it should have.
        ready: Instances that take messages.
        places: Deliveries one instance works on side by side, at most.
        waiting: Messages nobody holds.
        in_hand: Messages that are delivered and not settled.
        oldest_s: Age of the oldest waiting one, seconds.
        blocked_s: How long a position that this role feeds has held up a gather, seconds.
        arriving: Messages a second.
        drain: Messages a second that one instance gets through when it always has some; None:
            not known, because too few were settled.
    """

    wanted: int
    ready: int
    places: int = 1
    waiting: int = 0
    in_hand: int = 0
    oldest_s: float = 0
    blocked_s: float = 0
    arriving: float = 0
    drain: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is remembered between two decisions.

    Attributes:
        changed_s: When the number changed last, or looking began; monotonic seconds.
        needs: (when, how many would have done), of the calm time; only those that no later
            one exceeds.
        too_few: (when, number, messages a second): more arrived than so many could take.
    """

    changed_s: float
    needs: tuple[tuple[float, int], ...] = ()
    too_few: tuple[tuple[float, int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many there should be from now on.

    Attributes:
        count: Instances.
        move: Whether that is more than before, fewer, or as many.
        why: A clause for people, without full stop.
        is_capped: More would be needed than the rule allows.
        past: For the next decision.
    """

    count: int
    move: Literal["up", "down", "stay"]
    why: str
    past: Past
    is_capped: bool = False


def decide(scale: Scale, damping: Damping, load: Load, past: Past, now_s: float) -> Decision:
    """Decide how many instances a role should have.

    Args:
        scale: The rule in the role.
        damping: How eagerly.
        load: What was measured just now.
        past: As the decision before left it.
        now_s: Monotonic time, seconds; never goes backwards.

    Returns:
        A count from `scale.min` to `scale.max`, whatever was measured.
    """
    return _Case(scale, damping, load, past, now_s).decision()


class _Case:
    """One decision being made."""

    def __init__(
        self, scale: Scale, damping: Damping, load: Load, past: Past, now_s: float
    ) -> None:
        self._scale = scale
        self._damping = damping
        self._load = load
        self._past = past
        self._now_s = now_s
        near_s = damping.near * scale.target_age_s
        self._hurries = load.waiting > 0 and load.blocked_s >= near_s
        self._target_s = scale.target_age_s * (damping.haste if self._hurries else 1)

    def decision(self) -> Decision:
        load, scale = self._load, self._scale
        self._note(self._kept())
        if not scale.min <= load.wanted <= scale.max:
            return self._go(
                self._bounded(load.wanted), f"{scale.min} to {scale.max} are allowed"
            )
        late = self._late()
        if late:
            more = self._more()
            return self._up(more, late) if more > load.wanted else self._stay(late)
        fewer = self._bounded(self._most(self._calm_s()))
        few = max(load.wanted * (1 - self._damping.step), scale.min + 1)
        return self._down(fewer) if fewer < min(few, load.wanted) else self._stay(late)

    # -- up ------------------------------------------------------------------------------------

    def _late(self) -> str:
        """Say what is not in time, or nothing."""
        load, target_s = self._load, self._target_s
        near_s = self._damping.near * target_s
        if not load.waiting:
            return ""
        if not load.wanted:
            return f"{load.waiting:,} wait and nobody takes them"
        held = f", and a gather has stood for {_span(load.blocked_s)}" if self._hurries else ""
        if load.oldest_s >= near_s:
            where = "beyond" if load.oldest_s > target_s else "near"
            return f"oldest {_span(load.oldest_s)} is {where} {_span(target_s)}{held}"
        ahead_s, takers = self._ahead_s(), load.ready or load.wanted
        if ahead_s >= near_s:
            work = f"{load.waiting:,} wait, {_span(ahead_s)} of work for {takers}"
            return f"{work}; {_span(target_s)} is the target{held}"
        return ""

    def _ahead_s(self) -> float:
        """Return how long those that are ready take for what waits; 0 where unknown."""
        load = self._load
        return load.waiting / ((load.ready or load.wanted) * load.drain) if load.drain else 0

    def _enough(self) -> int:
        """Return how many carry what arrives and get through what waits in time."""
        load = self._load
        if not load.drain:
            return 2 * load.wanted or 1
        extra = load.waiting / (self._damping.aim * self._target_s)
        return math.ceil(min((load.arriving + extra) / load.drain, 1e9) - _EXACT)

    def _more(self) -> int:
        """Return how many to have, where something is late."""
        load = self._load
        # More new ones than messages wait would have nothing to begin with.
        return self._bounded(min(max(self._enough(), 1), load.ready + load.waiting))

    def _up(self, count: int, late: str) -> Decision:
        load, past = self._load, self._past
        rested_s = self._now_s - past.changed_s
        if load.wanted and rested_s < self._damping.rest_s:
            return self._keep(f"{late}; those that started are being measured")
        if not load.drain and load.ready < load.wanted:
            return self._keep(f"{late}; {load.wanted - load.ready} are about to be ready")
        others = (one for one in past.too_few if one[1] != load.wanted)
        too_few = (*others, (self._now_s, load.wanted, load.arriving))[-_REMEMBERED:]
        self._past = replace(past, too_few=too_few)
        return self._go(count, f"{late}{self._flow()}")

    def _flow(self) -> str:
        load = self._load
        if not load.drain:
            return ""
        return f" ({_rate(load.arriving)} arrive, one takes {_rate(load.drain)})"

    # -- down ----------------------------------------------------------------------------------

    def _kept(self) -> int:
        """Return how many carry the load at ease, or have it in hand."""
        load, ease = self._load, 1 - self._damping.spare
        if not load.drain:
            return max(min(load.wanted, load.waiting + load.in_hand), self._proved())
        busy = max(load.arriving / load.drain, load.in_hand / load.places)
        count = max(math.ceil(min(busy / ease, 1e9) - _EXACT), min(1, load.in_hand))
        if load.waiting:
            count = max(count, min(self._enough(), load.ready + load.waiting), 1)
        return max(count, self._proved())

    def _proved(self) -> int:
        """Return how many a load like this one took before."""
        relief, load = self._damping.relief, self._load
        since_s = self._now_s - self._damping.remember_s
        return max(
            (
                count + 1
                for at_s, count, arriving in self._past.too_few
                if at_s >= since_s and load.arriving > relief * arriving
            ),
            default=0,
        )

    def _note(self, count: int) -> None:
        """Remember how many would have done now."""
        since_s = self._now_s - max(self._damping.calm_s, self._damping.calm_most_s)
        kept = [(at_s, n) for at_s, n in self._past.needs if at_s >= since_s and n > count]
        self._past = replace(self._past, needs=(*kept, (self._now_s, count)))

    def _falls_fast(self, calm_s: float) -> bool:
        """Whether half would do in a moment: then it goes down once instead of twice."""
        soon = self._bounded(self._most(calm_s * (1 - self._damping.moment)))
        now = self._bounded(self._most(calm_s))
        return soon < now and soon <= now / 2

    def _most(self, lately_s: float) -> int:
        """Return how many were needed at most lately."""
        since_s = self._now_s - lately_s
        return max(n for at_s, n in self._past.needs if at_s >= since_s)

    def _calm_s(self) -> float:
        """Return how long fewer must have been enough: some messages must have come."""
        damping, drain = self._damping, self._load.drain
        if not drain:
            return damping.calm_most_s if self._past.too_few else damping.calm_s
        return max(damping.calm_s, min(damping.calm_messages / drain, damping.calm_most_s))

    def _down(self, count: int) -> Decision:
        calm_s, rested_s = self._calm_s(), self._now_s - self._past.changed_s
        left_s = calm_s - rested_s
        if left_s <= 0 and self._falls_fast(calm_s):
            return self._keep(f"{count} would do, and soon fewer")
        if left_s > 0:
            return self._keep(f"{count} would do; so it goes down in {left_s:.0f} s")
        return self._go(count, f"for {calm_s:.0f} s {count} would have done{self._flow()}")

    # -- what comes out ------------------------------------------------------------------------

    def _stay(self, late: str) -> Decision:
        load, scale = self._load, self._scale
        if late and load.wanted == scale.max:
            kept = self._keep(f"{late}; {scale.max} is the most its scale allows")
            return replace(kept, is_capped=True)
        if late:
            return self._keep(f"{late}, but {load.wanted} are enough for it{self._flow()}")
        if load.waiting or load.in_hand or load.arriving:
            return self._keep(f"in time{self._flow()}")
        return self._keep("nothing to do")

    def _keep(self, why: str) -> Decision:
        return Decision(count=self._load.wanted, move="stay", why=why, past=self._past)

    def _go(self, count: int, why: str) -> Decision:
        past = replace(self._past, changed_s=self._now_s)
        move: Literal["up", "down"] = "up" if count > self._load.wanted else "down"
        return Decision(count=count, move=move, why=why, past=past)

    def _bounded(self, count: int) -> int:
        return min(max(count, self._scale.min), self._scale.max)


def _span(seconds: float) -> str:
    if seconds < 100:  # noqa: PLR2004 - beyond, tenths say nothing
        return f"{seconds:.1f} s".replace(".0 s", " s")
    return f"{seconds:,.0f} s"


def _rate(per_s: float) -> str:
    if per_s >= 10 or not per_s:  # noqa: PLR2004 - below, whole numbers say too little
        return f"{per_s:,.0f}/s"
    return f"{per_s:.2g}/s"
