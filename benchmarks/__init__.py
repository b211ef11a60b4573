"""Measurements; see docs/why/performance.md."""
