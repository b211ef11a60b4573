"""What the fault tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from blockbuster import BlockBuster

READS_AT_START = {
    "rolekit/database.py": {"load_queries"},
    "rolekit/store/migrate.py": {"_migrations"},
    "rolekit/store/postgres/host.py": {"_machine", "_started"},
}


@pytest.fixture(autouse=True)
def no_blocking_calls(no_blocking_calls: BlockBuster) -> BlockBuster:
    """Let parts read their own small files when they start."""
    for function in no_blocking_calls.functions.values():
        for file, names in READS_AT_START.items():
            function.can_block_in(file, names)
    return no_blocking_calls
