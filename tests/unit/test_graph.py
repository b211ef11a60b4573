"""Routes from plans, and the sentences for what does not fit."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rolekit import Message, Reply
from rolekit.model.graph import Graph, draw
from rolekit.model.plan import HandlerPlan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.model.plan import Together


class Mail(Message):
    pass


class Copy(Message):
    pass


class Scrap(Message):
    pass


class Verdict(Message):
    pass


class Delivered(Message):
    pass


class Delivery(Message):
    pass


class Bounced(Message):
    pass


class Done(Reply):
    pass


def step(name: str, takes: type, returns: Iterable[type] = (), **more: Any) -> HandlerPlan:  # noqa: ANN401 - fields
    role, _, method = name.partition(".")
    return HandlerPlan(
        name=name, role=role, method=method, takes=(takes,), returns=tuple(returns), **more
    )


def split(name: str, takes: type, *returns: type) -> HandlerPlan:
    return step(name, takes, returns, shape="iterator", call="async_iterator")


def closing(name: str, source: type | None, *takes: type, **more: Any) -> HandlerPlan:  # noqa: ANN401 - fields of the plan
    role, _, method = name.partition(".")
    return HandlerPlan(
        name=name, role=role, method=method, kind="gather", takes=takes, source=source, **more
    )


def told(graph: Graph) -> list[str]:
    return [str(problem) for problem in graph.problems]


NESTED = (
    split("S.split", Mail, Copy),
    split("I.open", Copy, Scrap),
    step("I.scan", Scrap, [Verdict]),
    closing("I.judge", Copy, Verdict, returns=(Delivery, Bounced), whole=True),
    step("D.deliver", Delivery, [Delivered, Bounced]),
    closing("R.report", Mail, Delivered, Bounced, returns=(Done,), shape="iterator"),
)


def test_a_split_within_a_split_opens_the_gather_that_names_its_message() -> None:
    graph = draw(NESTED)

    assert told(graph) == []
    assert graph.opens == {"S.split": "R.report", "I.open": "I.judge"}


def test_what_a_gather_returns_reaches_further_gathers() -> None:
    graph = draw(NESTED)

    both = {"I.judge", "R.report"}
    assert {name: set(to) for name, to in graph.reaches.items()} == {
        "S.split": both,
        "I.open": both,
        "I.scan": both,
        "I.judge": both,
        "D.deliver": {"R.report"},
        "R.report": {"R.report"},
    }


def test_a_class_goes_to_every_handler_that_takes_it() -> None:
    graph = draw([step("A.a", Mail), step("B.b", Mail), step("C.c", Copy)])

    assert graph.destinations == {Mail: ("A.a", "B.b"), Copy: ("C.c",)}


def test_a_second_handler_of_a_part_that_leads_nowhere_is_fine() -> None:
    graph = draw([*NESTED, step("Audit.copy", Copy), step("Audit.bounce", Bounced)])

    assert told(graph) == []


def test_a_loop_of_handlers_is_followed_once() -> None:
    graph = draw([step("A.a", Mail, [Copy]), step("B.b", Copy, [Mail, Done])])

    assert told(graph) == []
    assert graph.reaches == {"A.a": frozenset(), "B.b": frozenset()}


def test_a_gather_that_names_no_message_gets_the_one_split_upstream() -> None:
    graph = draw([split("S.split", Mail, Copy), closing("R.report", None, Copy)])

    assert told(graph) == []
    assert graph.handlers["R.report"].source is Mail
    assert graph.opens == {"S.split": "R.report"}


def test_a_split_that_another_gather_names_is_not_a_candidate() -> None:
    judge = closing("I.judge", None, Verdict, returns=(Delivery, Bounced))
    plans = [judge if plan.name == "I.judge" else plan for plan in NESTED]

    graph = draw(plans)

    assert told(graph) == []
    assert graph.handlers["I.judge"].source is Copy


def test_several_splits_upstream_are_refused_with_the_candidates() -> None:
    plans = [
        split("S.split", Mail, Copy),
        split("I.open", Copy, Scrap),
        closing("R.report", None, Scrap),
    ]

    assert told(draw(plans)) == [
        (
            "R.report: does not say which split it closes; what S.split and I.open returns "
            "comes here.\n    Take the message that was split beside the run: Copy or Mail."
        )
    ]


def test_a_split_without_gather_opens_nothing() -> None:
    graph = draw([split("S.split", Mail, Copy), step("A.a", Copy)])

    assert told(graph) == []
    assert graph.opens == {}


def test_a_type_that_nobody_takes_is_refused_with_the_nearest_one() -> None:
    graph = draw([step("D.deliver", Mail, [Delivery]), step("R.note", Delivered)])

    assert told(graph) == [
        (
            "D.deliver: returns Delivery, which nobody takes.\n"
            "    Did you mean Delivered? A message for ask or follow derives from Reply."
        )
    ]


def test_a_type_that_is_sent_and_nobody_takes_is_refused() -> None:
    graph = draw([step("D.deliver", Mail, sends=(Scrap,))])

    assert told(graph)[0].startswith("D.deliver: sends Scrap, which nobody takes.")


def test_a_reply_and_a_type_of_another_app_need_no_handler() -> None:
    graph = draw([step("D.deliver", Mail, [Done, Scrap])], elsewhere=[Scrap])

    assert told(graph) == []


def test_a_type_that_only_clients_send_is_fine() -> None:
    assert told(draw([step("D.deliver", Mail)])) == []


def test_two_gathers_of_one_split_are_refused() -> None:
    plans = [
        split("S.split", Mail, Copy, Scrap),
        closing("A.first", Mail, Copy),
        closing("B.second", Mail, Scrap),
    ]

    assert told(draw(plans)) == [
        (
            "B.second: gathers the parts of S.split, and so does A.first.\n"
            "    A split has one gather: let one of them take what the other returns."
        )
    ]


def test_two_splits_of_one_message_for_one_gather_are_refused() -> None:
    plans = [
        split("S.one", Mail, Copy),
        split("S.two", Mail, Copy),
        closing("R.report", Mail, Copy),
    ]

    assert "S.one and S.two each split it" in told(draw(plans))[0]


def test_two_ways_from_one_split_to_one_gather_are_refused() -> None:
    plans = [
        split("S.split", Mail, Copy),
        step("A.a", Copy, [Delivered]),
        step("B.b", Copy, [Bounced]),
        closing("R.report", Mail, Delivered, Bounced),
    ]

    assert told(draw(plans)) == [
        (
            "R.report: would get two parts for one position: a Copy goes to A.a and B.b, "
            "and both lead here.\n    Let one of them "
            "return None, or something that does not come here."
        )
    ]


def together(name: str, takes: type, *items: type, **more: Any) -> HandlerPlan:  # noqa: ANN401 - fields of the plan
    return step(name, takes, items, together=(tuple((cls,) for cls in items),), **more)


@pytest.mark.parametrize("shape", ["one", "list"])
def test_what_stands_beside_a_part_may_go_elsewhere(shape: str) -> None:
    plans = [
        split("S.split", Mail, Copy),
        together("D.deliver", Copy, Delivered, Bounced, Done, shape=shape),
        step("N.note", Bounced),
        closing("R.report", Mail, Delivered),
    ]

    graph = draw(plans)

    assert told(graph) == []
    assert graph.opens == {"S.split": "R.report"}


def test_two_messages_that_could_both_take_one_position_are_refused() -> None:
    plans = [
        split("S.split", Mail, Copy),
        together("D.deliver", Copy, Delivered, Scrap),
        step("B.b", Scrap, [Bounced]),
        closing("R.report", Mail, Delivered, Bounced),
    ]

    assert told(draw(plans)) == [
        (
            "R.report: would get two parts for one position: D.deliver returns Delivered and "
            "Scrap together, and both lead here.\n    Let one of them be something that does "
            "not come here, or return a list: it gives each a position of its own."
        )
    ]


def test_a_split_into_tuples_that_could_both_take_one_position_is_refused() -> None:
    plans = [
        together("S.split", Mail, Delivered, Bounced, shape="list"),
        closing("R.report", Mail, Delivered, Bounced),
    ]

    assert "S.split returns Delivered and Bounced together" in told(draw(plans))[0]


@pytest.mark.parametrize(
    ("positions", "ends_with"),
    [
        ([((Bounced,), (Done,))], ["Bounced", "Done"]),  # none of it leads there
        ([((Delivered, Bounced), (Done,))], ["Bounced"]),  # one of it may
        ([((Delivered,), (Done,)), ((Done,),)], ["Done"]),  # or it comes alone
    ],
)
def test_a_tuple_in_which_nothing_need_lead_to_the_gather_is_refused(
    positions: list[Together], ends_with: list[str]
) -> None:
    returns = (Delivered, Bounced, Done)
    plans = [
        split("S.split", Mail, Copy),
        step("D.deliver", Copy, returns, together=tuple(positions)),
        step("N.note", Bounced),
        closing("R.report", Mail, Delivered),
    ]

    found = [
        text.partition("may also end a position with ")[2].partition(".")[0]
        for text in told(draw(plans))
    ]

    assert found == ends_with


def test_a_part_that_also_goes_on_is_a_second_way() -> None:
    plans = [
        split("S.split", Mail, Copy),
        step("A.a", Copy, [Delivered]),
        closing("R.report", Mail, Copy, Delivered),
    ]

    assert "a Copy goes to A.a and R.report" in told(draw(plans))[0]


def test_a_class_that_ends_a_position_must_be_taken_by_the_gather() -> None:
    plans = [
        split("S.split", Mail, Copy),
        step("D.deliver", Copy, [Delivered, Bounced]),
        step("N.note", Bounced),
        closing("R.report", Mail, Delivered, on_dead="hole"),
    ]

    assert told(draw(plans)) == [
        (
            "R.report: takes Run[Delivered | Hole], but D.deliver may also end a position "
            "with Bounced.\n    Take Run[Delivered | Bounced | Hole], or handle Bounced "
            "elsewhere "
            "and return None here."
        )
    ]


def test_a_reply_ends_a_position_as_well() -> None:
    plans = [
        split("S.split", Mail, Copy),
        step("D.deliver", Copy, [Delivered, Done]),
        closing("R.report", Mail, Delivered),
    ]

    assert "D.deliver may also end a position with Done" in told(draw(plans))[0]


def test_an_output_that_leaves_an_inner_sequence_early_is_refused() -> None:
    scan = step("I.scan", Scrap, [Verdict, Bounced])
    plans = [scan if plan.name == "I.scan" else plan for plan in NESTED]

    assert told(draw(plans)) == [
        (
            "I.judge: takes list[Verdict], but I.scan may also end a position "
            "with Bounced.\n    Take list[Verdict | Bounced], or handle Bounced elsewhere "
            "and return None here."
        )
    ]


def test_a_split_may_yield_what_does_not_lead_to_its_gather() -> None:
    plans = [
        split("S.split", Mail, Copy, Scrap, Done),
        step("A.a", Scrap),
        closing("R.report", Mail, Copy),
    ]

    assert told(draw(plans)) == []


def test_a_gather_without_the_split_that_it_names_is_refused() -> None:
    graph = draw([step("A.a", Mail, [Copy]), closing("R.report", Mail, Copy)])

    assert "takes Run[Copy], but no handler of Mail splits into messages" in told(graph)[0]


def test_a_list_without_a_split_upstream_is_refused() -> None:
    listed = replace(closing("R.report", None, Copy), whole=True)

    plans = [step("A.a", Mail, [Copy]), listed]

    assert "takes list[Copy], but no handler" in told(draw(plans))[0]


def test_a_gather_without_a_split_upstream_takes_a_stream() -> None:
    graph = draw([step("A.a", Mail, [Copy]), closing("R.report", None, Copy)])

    assert told(graph) == []
    assert graph.streams == {"R.report"}


def test_what_a_message_of_a_stream_may_end_as_must_be_taken() -> None:
    plans = [step("A.a", Mail, [Copy, Scrap]), step("S.s", Scrap), closing("R.r", None, Copy)]

    assert "A.a may also end a position with Scrap" in told(draw(plans))[0]


def test_a_deadline_with_nothing_to_do_at_it_is_refused() -> None:
    plans = [split("S.split", Mail, Copy), closing("R.report", Mail, Copy, deadline_s=5)]

    assert 'R.report: has deadline_s=5 and on_dead="wait"' in told(draw(plans))[0]
    assert "Take Run[Copy | Hole]" in told(draw(plans))[0]


def test_two_handlers_of_one_name_are_refused() -> None:
    plans = [
        HandlerPlan(name="same", role="A", method="a", takes=(Mail,)),
        HandlerPlan(name="same", role="B", method="b", takes=(Copy,)),
    ]

    assert told(draw(plans))[0].startswith("B.b: is called 'same', and so is A.a.")


def test_two_classes_of_one_wire_name_are_refused() -> None:
    class Twin(Message, name="Mail"):
        pass

    graph = draw([step("A.a", Mail), step("B.b", Twin)])

    assert "is called 'Mail' on the wire, and so is" in told(graph)[0]
    assert "test_two_classes_of_one_wire_name_are_refused.<locals>.Twin" in told(graph)[0]


def test_an_alias_counts_as_a_name() -> None:
    class Renamed(Message, aliases=("Mail",)):
        pass

    assert len(draw([step("A.a", Mail), step("B.b", Renamed)]).problems) == 1


def test_names_given_to_the_app_come_before_those_of_classes() -> None:
    graph = draw([step("A.a", Mail, [Done])], names={Mail: "post.mail"})

    assert graph.wire_names == {Mail: "post.mail", Done: "Done"}
    assert graph.types == {"post.mail": Mail, "Done": Done}


def test_a_message_whose_fields_cannot_be_read_is_refused() -> None:
    class Broken(Message):
        a: NotThere  # type: ignore[name-defined]  # noqa: F821

    assert "name 'NotThere' is not defined" in told(draw([step("A.a", Broken)]))[0]
