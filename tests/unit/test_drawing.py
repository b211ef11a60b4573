"""Random ids: no two alike, in whichever process."""

from __future__ import annotations

import os

from rolekit.flow.drawing import AT_A_TIME, draw_root
from rolekit.model.ids import is_given_by


def test_no_two_are_alike() -> None:
    drawn = [draw_root("shop") for _ in range(10 * AT_A_TIME)]

    assert len(set(drawn)) == len(drawn)
    assert all(len(bytes.fromhex(one)) == 16 for one in drawn)
    assert all(is_given_by("shop", one) for one in drawn)


def test_a_forked_process_draws_others() -> None:
    draw_root("shop")  # what was drawn with it is there when the other process begins
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(theirs, draw_root("shop").encode())
        os._exit(0)
    os.close(theirs)
    os.waitpid(pid, 0)

    with os.fdopen(ours) as reader:
        assert reader.read() not in {draw_root("shop") for _ in range(AT_A_TIME)}
