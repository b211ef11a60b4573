"""What `import rolekit` gives."""

from __future__ import annotations

import rolekit

TOPICS = (
    "App",
    "Message Reply Receipt Blob State Secret",
    "WebRole WorkerRole VMRole",
    "handle gather cron every",
    "Context Client Run Batch Hole DeadLetter",
    "Retry Reject",
    "Backoff Rate Circuit Scale",
)


def test_rolekit_gives_these_names_and_no_others() -> None:
    expected = sorted(name for topic in TOPICS for name in topic.split())

    assert sorted(rolekit.__all__) == expected
    assert len(expected) == 26


def test_each_public_name_is_there() -> None:
    missing = [name for name in (*rolekit.__all__, "field") if not hasattr(rolekit, name)]

    assert missing == []
