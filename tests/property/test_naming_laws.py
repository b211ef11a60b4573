"""The laws of ids and positions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.model.ids import CHECK_DIGITS, body_hash, derive, given_by, is_given_by, keyed
from rolekit.model.position import Frame, Path, pack, unpack

pytestmark = pytest.mark.timeout(60)

IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)
WORDS = st.text("ab1\x00é", max_size=4)  # few letters: runs of them are often alike
SLOTS = st.lists(WORDS, max_size=4).map(tuple)
PATHS = st.lists(st.integers(0, 2**32 - 2), max_size=6).map(tuple)


@given(IDS, st.sets(SLOTS, min_size=2, max_size=6))
def test_slots_that_differ_name_outputs_that_differ(
    parent: str, slots: set[tuple[str]]
) -> None:
    names = {derive(parent, *slot) for slot in slots}

    assert len(names) == len(slots)


@given(IDS, SLOTS)
def test_the_same_slot_always_has_the_same_name(parent: str, slot: tuple[str, ...]) -> None:
    name = derive(parent, *slot)

    assert name == derive(parent, *slot)
    assert len(bytes.fromhex(name)) == 16
    assert name == name.lower()


@given(IDS, st.integers(0, 2**40))
def test_a_number_in_a_slot_is_named_like_its_digits(parent: str, index: int) -> None:
    assert derive(parent, "handler", index) == derive(parent, "handler", str(index))


@given(IDS, st.sets(st.lists(SLOTS, max_size=3).map(tuple), min_size=2, max_size=6))
def test_no_two_ways_down_a_tree_of_outputs_meet(
    root: str, ways: set[tuple[tuple[str, ...], ...]]
) -> None:
    names: set[str] = set()

    for way in ways:
        name = root
        for slot in way:
            name = derive(name, *slot)
        names.add(name)

    assert len(names) == len(ways)


@given(SLOTS, SLOTS)
def test_a_key_names_one_message_and_another_key_another(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    assert (keyed(*one) == keyed(*other)) == (one == other)


@given(IDS, st.text(), st.text())
def test_an_app_knows_the_ids_it_gave_and_no_others(id_: str, app: str, other: str) -> None:
    given_id = given_by(app, id_)

    assert is_given_by(app, given_id)
    assert is_given_by(other, given_id) == (app == other)
    assert is_given_by(app, id_) == (id_ == given_id)


@given(IDS, st.integers(0, 31), st.sampled_from("0123456789abcdef"))
def test_an_id_with_one_digit_wrong_was_not_given(id_: str, at: int, digit: str) -> None:
    right = given_by("app", id_)

    wrong = right[:at] + digit + right[at + 1 :]

    assert is_given_by("app", wrong) == (wrong == right)


@given(IDS, IDS)
def test_an_id_that_is_given_keeps_what_tells_it_from_others(one: str, other: str) -> None:
    kept = slice(-CHECK_DIGITS)

    assert (given_by("app", one) == given_by("app", other)) == (one[kept] == other[kept])


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_bodies_that_differ_have_fingerprints_that_differ(one: bytes, other: bytes) -> None:
    assert (body_hash(one) == body_hash(other)) == (one == other)


def test_names_stay_what_they_were_in_earlier_releases() -> None:
    # Messages under way and dedup rows hold them: a change would let work happen twice.
    assert (
        derive("00" * 16, "Role.method", 3, "Other.method")
        == "d1e3345c19da578a362f9797da7eb5e1"
    )
    assert keyed("POST /mail", "anna", "k-1") == "53e90db57a2020b75bf158cb05a059ac"
    assert given_by("shop", "00" * 16) == "0000000000000000000000000005589d"


@given(PATHS)
def test_a_packed_path_comes_back(path: Path) -> None:
    assert unpack(pack(path)) == path


@given(PATHS, PATHS)
def test_packed_paths_sort_as_paths_do(one: Path, other: Path) -> None:
    assert (pack(one) < pack(other)) == (one < other)


@given(PATHS, st.integers(0, 2**32 - 2))
def test_a_child_sorts_behind_its_parent_and_before_the_next_sibling(
    path: Path, index: int
) -> None:
    frame = Frame("5e" * 16, "Role.gather", path)

    child = frame.child(index)

    assert pack(path) < pack(child.path)
    assert (child.sequence, child.gather) == (frame.sequence, frame.gather)
    if path:
        assert pack(child.path) < pack((*path[:-1], path[-1] + 1))
