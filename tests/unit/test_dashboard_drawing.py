"""The drawing of a pipeline: columns follow the flow, whatever its shape."""

from __future__ import annotations

from examples.mailflow.app import app
from rolekit import App, Message, WorkerRole, handle
from rolekit.dashboard.drawing import OUTSIDE, Drawing, draw


def columns(drawing: Drawing) -> dict[str, int]:
    return {box.role: box.column for box in drawing.boxes}


def test_mailflow_is_drawn_from_left_to_right() -> None:
    drawing = draw(app.plan(), [role.__name__ for role in app.roles])

    found = columns(drawing)
    assert found["Splitter"] < found["SpamCheck"] < found["Inspector"] < found["Deliverer"]
    assert found["Deliverer"] < found["Reporter"]
    split = [arrow for arrow in drawing.arrows if arrow.sender == "Splitter"]
    assert [(arrow.taker, arrow.is_split) for arrow in split] == [("SpamCheck", True)]
    assert any(
        arrow.sender == OUTSIDE and arrow.taker == "Splitter" for arrow in drawing.arrows
    )
    # What handlers name first is what mostly happens; it is not sorted by letters.
    assert [arrow.names for arrow in drawing.arrows if arrow.sender == "Deliverer"] == [
        ("Delivered", "Bounced")
    ]
    assert len({(box.column, box.row) for box in drawing.boxes}) == len(drawing.boxes)


class Ping(Message):
    """Goes round."""


class Pong(Message):
    """Comes back."""


class There(WorkerRole):
    """Answers."""

    @handle
    async def take(self, ping: Ping) -> Pong:
        return Pong()


class Back(WorkerRole):
    """Asks again."""

    @handle
    async def take(self, pong: Pong) -> Ping | None:
        return None


def test_a_circle_is_cut_open_and_a_role_without_handlers_is_there() -> None:
    made = App("circle", roles=[There, Back])

    drawing = draw(made.plan(), ["Alone", "There", "Back"])

    assert columns(drawing) == {"Alone": 0, "There": 0, "Back": 1}
    assert {(arrow.sender, arrow.taker) for arrow in drawing.arrows} == {
        ("There", "Back"),
        ("Back", "There"),
    }
