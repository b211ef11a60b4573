"""Large samples, made at run time and the same each time."""

from __future__ import annotations

import random

from examples.mailflow.samples.sample import Sample, attached, head, multipart, part

MEGABYTE = 1024 * 1024


def _bytes(size: int, *, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  test data, wanted again


def _with_file(megabytes: int) -> bytes:
    data = _bytes(megabytes * MEGABYTE, seed=megabytes)
    text = part("text/plain", f"{megabytes} MB for you.\r\n".encode())
    name = f"random-{megabytes}-mb.bin"
    return head(f"{megabytes} MB") + multipart("mixed", text, attached(name, data))


def _text(lines: int) -> bytes:
    row = b"All work and no play makes a dull mail, line %06d.\r\n"
    return head("A long text") + b"\r\n" + b"".join(row % number for number in range(lines))


def samples() -> list[Sample]:
    """Return a long text, and attachments of 1 MB and of 5 MB."""
    return [
        Sample(name="text of 500 kB", raw=_text(10_000)),
        Sample(name="attachment of 1 MB", raw=_with_file(1)),
        Sample(name="attachment of 5 MB", raw=_with_file(5)),
    ]
