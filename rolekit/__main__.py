"""`python -m rolekit`, and the `rolekit` command."""

from __future__ import annotations

import sys

from rolekit.cli import glance


def main() -> None:
    """Run the command line."""
    if said := glance.glance(sys.argv[1:]):
        print(said)  # noqa: T201 - what the command prints
        sys.exit(said != glance.READY)
    from rolekit.cli.main import run  # noqa: PLC0415 - takes ten times as long as a glance

    sys.exit(run())


if __name__ == "__main__":
    main()
