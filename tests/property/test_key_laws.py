"""The laws of keys, partitions and shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit import Message
from rolekit.model.envelope import Head, decode_head, encode_head, keyed
from rolekit.model.keys import key_of, partition_in, partition_of, partition_queue
from rolekit.model.shares import shares

pytestmark = pytest.mark.timeout(60)

WORDS = st.text("ab|\\é", max_size=4)
MEMBERS = st.lists(st.integers(1, 9), min_size=1, max_size=6, unique=True)
OWNERS = st.lists(st.one_of(st.none(), st.integers(1, 9)), min_size=1, max_size=40).map(
    lambda owners: dict(enumerate(owners))
)


class Pair(Message):
    """Has a key of two fields."""

    left: str
    right: str


@given(st.sets(st.tuples(WORDS, WORDS), min_size=2, max_size=6))
def test_pairs_that_differ_have_keys_that_differ(pairs: set[tuple[str, str]]) -> None:
    keys = {key_of(Pair(left=a, right=b), ("left", "right")) for a, b in pairs}

    assert len(keys) == len(pairs)


@given(st.text(max_size=20), st.integers(1, 1000))
def test_a_key_always_has_the_same_partition(key: str, count: int) -> None:
    number = partition_of(key, count)

    assert 0 <= number < count
    assert number == partition_of(key, count)


def test_partitions_are_where_they_were_in_every_release() -> None:
    assert [partition_of(key, 16) for key in ("", "a", "customer-1", "é")] == [4, 15, 13, 15]


@given(st.sampled_from(["Role", "R_1", "Rôle"]), st.integers(0, 999))
def test_the_name_of_a_queue_tells_its_partition(role: str, number: int) -> None:
    assert partition_in(partition_queue(role, number)) == (role, number)
    assert partition_in(f"{role}.handler") is None


@given(OWNERS, MEMBERS)
def test_shares_are_even_and_whole(owners: dict[int, int | None], members: list[int]) -> None:
    found = shares(owners, members)

    sizes = sorted(len(numbers) for numbers in found.values())
    assert sorted(n for numbers in found.values() for n in numbers) == sorted(owners)
    assert sizes[-1] - sizes[0] <= 1
    assert set(found) == set(members)


@given(OWNERS, MEMBERS)
def test_who_has_its_share_keeps_all_of_it(
    owners: dict[int, int | None], members: list[int]
) -> None:
    first = shares(owners, members)
    after = {number: member for member, numbers in first.items() for number in numbers}

    assert shares(after, members) == first


@given(OWNERS, MEMBERS)
def test_nobody_gets_another_ones_while_it_has_too_many_itself(
    owners: dict[int, int | None], members: list[int]
) -> None:
    found = shares(owners, members)

    for member, numbers in found.items():
        had = {number for number, owner in owners.items() if owner == member}
        assert numbers <= had or had <= numbers


@given(OWNERS, MEMBERS, st.data())
def test_giving_and_taking_one_by_one_moves_nothing_twice(
    owners: dict[int, int | None], members: list[int], data: st.DataObject
) -> None:
    wanted = shares(owners, members)
    now = dict(owners)
    for _ in range(2 * len(owners)):
        moves = [
            (number, None if now[number] in members else member)
            for member, numbers in wanted.items()
            for number in sorted(numbers)
            if now[number] != member
        ]
        if not moves:
            break
        number, owner = data.draw(st.sampled_from(moves))
        now[number] = owner
        mine = shares(now, members)
        kept = {n: m for n, m in now.items() if m is not None and n in wanted.get(m, ())}
        assert all(n in mine[m] for n, m in kept.items())


def test_without_members_nobody_has_a_share() -> None:
    assert shares({0: None, 1: 5}, []) == {}


@given(st.text("ab.", min_size=1, max_size=9), st.text(max_size=9))
def test_a_keyed_head_comes_back_and_others_carry_nothing_of_keys(
    handler: str, key: str
) -> None:
    plain = Head(type="x", headers={"a": "b"}, root="r")

    encoded = encode_head(keyed(plain, handler, key))

    assert decode_head(encoded) == keyed(plain, handler, key)
    assert type(decode_head(encode_head(plain))) is Head
    assert len(encode_head(plain)) < len(encoded)
