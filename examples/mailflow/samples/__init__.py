"""Mails to try mailflow with: made for it, varied, some of them against the standard.

They are written as Python rather than files, so that every byte is visible and no tool
changes a line end; the large ones and the test virus exist only at run time.
"""

from __future__ import annotations

from examples.mailflow.samples import large, odd, plain, structured
from examples.mailflow.samples.sample import Sample


def all_samples() -> list[Sample]:
    """Return all samples, each under a name of its own."""
    return [*plain.SAMPLES, *structured.samples(), *odd.samples(), *large.samples()]


__all__ = ["Sample", "all_samples"]
