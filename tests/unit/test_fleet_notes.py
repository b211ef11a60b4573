"""What `rolekit ps` says about handlers beside their numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from rolekit import link
from rolekit.supervisor.status import notes_of


@dataclass
class Saying:
    """An instance that said this with its last beat."""

    notes: dict[str, str] = field(default_factory=dict[str, str])


NOTHING: dict[str, str] = {}
OPEN = {"P.charge": "circuit open"}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ([NOTHING, NOTHING], ()),
        ([OPEN, OPEN], ("P.charge: circuit open",)),
        ([OPEN, NOTHING, OPEN], ("P.charge: circuit open in 2 of 3",)),
        (
            [OPEN, {"A.b": "circuit open"}],
            ("A.b: circuit open in 1 of 2", "P.charge: circuit open in 1 of 2"),
        ),
    ],
)
def test_what_instances_say_is_shown_once_with_their_number(
    said: list[dict[str, str]], shown: tuple[str, ...]
) -> None:
    assert notes_of([Saying(notes) for notes in said]) == shown


def test_a_beat_carries_notes_and_one_of_an_older_instance_has_none() -> None:
    beat = link.Beat(in_hand=1, notes=OPEN)

    assert link.from_instance(link.encode(beat)) == beat
    assert link.from_instance(b'{"type":"beat","in_hand":1}\n') == link.Beat(in_hand=1)
