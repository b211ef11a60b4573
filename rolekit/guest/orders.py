"""What a keeper is told, as it travels over its channel.

Like `keeper`, of which it is a part, it imports nothing of rolekit.
"""

from __future__ import annotations

from typing import TypedDict


class Start(TypedDict):
    """How to start a guest. With it come stdin, stdout, stderr, then others, in order.

    The others are, for a sandbox, the gate of a guest that waits to become a program and the
    filter; then files; last, where one stays, the channel of its spawner, and where the shell
    in it says that it is there. Without a sandbox, a spawner has its channel alone.

    Attributes:
        argv: Program, with its path, and arguments.
        env: All of its environment, but HOME and TMPDIR where it has a scratch folder.
        limits: Resource limits, by the name that `resource` has for them.
        pids: For the user namespace of a sandbox; None where there is none.
        uid: To become; None: stay.
        has_scratch: Whether to make a scratch folder and to start in it.
        is_reached: Whether somebody will connect to it, or look into its folders.
        waits: Whether its arguments come when they are known: to a sandbox over a gate, or to
            a spawner. It runs nothing before.
        folders: Made in its scratch folder.
        files: Names of files that come with it, put there. For a sandbox, `argv` has them.
        sizes: Of each, in bytes: they come in one piece.
        has_spawner: Whether a spawner runs one program after another there.
    """

    argv: list[str]
    env: dict[str, str]
    limits: dict[str, int]
    pids: int | None
    uid: int | None
    has_scratch: bool
    is_reached: bool
    waits: bool
    folders: list[str]
    files: list[str]
    sizes: list[int]
    has_spawner: bool


class Terms(TypedDict):
    """What holds for every guest of a keeper.

    Attributes:
        folder: Its own; scratch folders are made in it.
        memory_bytes: Of all processes of a guest together.
        pids: Processes of a guest.
        groups: Folders of its cgroup; it removes them in the end.
    """

    folder: str
    memory_bytes: int
    pids: int
    groups: list[str]
