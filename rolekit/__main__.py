"""`python -m rolekit`, and the `rolekit` command."""

from __future__ import annotations

import sys

from rolekit.cli.main import run


def main() -> None:
    """Run the command line."""
    sys.exit(run())


if __name__ == "__main__":
    main()
