"""What was done with roles: the last of it, with its time, repeats counted."""

from __future__ import annotations

from rolekit.supervisor.reasons import Reason, Reasons


def test_repeats_in_a_row_are_counted_and_each_role_has_its_own() -> None:
    now = [100.0]
    reasons = Reasons(lambda: now[0])

    for what in ("died", "died", "scaled", "died"):
        reasons.add("A", what)
        now[0] += 1
    reasons.add("B", "scaled")

    assert reasons.of("A") == (
        Reason(at=101, what="died", times=2),
        Reason(at=102, what="scaled"),
        Reason(at=103, what="died"),
    )
    assert reasons.of("B") == (Reason(at=104, what="scaled"),)
    assert reasons.of("C") == ()


def test_the_last_are_kept() -> None:
    reasons = Reasons()
    for number in range(100):
        reasons.add("A", str(number))

    assert [one.what for one in reasons.of("A")] == [str(n) for n in range(80, 100)]
