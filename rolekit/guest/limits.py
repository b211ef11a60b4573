"""What a guest may use, and what makes no sense."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one guest may use.

    Attributes:
        time_s: Seconds for one call, then the guest is killed.
        memory_mb: Of all its processes together.
        output_mb: Of what it writes for one call.
        pids: Processes at once.
        cpu_s: Seconds of processor time for each of its processes, as long as that lives; 0: no
            limit of its own.
        start_s: Seconds until one that stays is ready for its first call.
        scratch_mb: For what it writes to files: in a `Sandbox` all together, in a `Process`
            each file.
        uses: Calls after which one that stays is replaced.
        age_s: Seconds after which one that stays is replaced.
    """

    time_s: float = 60
    memory_mb: int = 512
    output_mb: int = 16
    pids: int = 64
    cpu_s: int = 0
    start_s: float = 30
    scratch_mb: int = 64
    uses: int = 10_000
    age_s: float = 3600


_RANGES: dict[str, tuple[float, float]] = {
    "time_s": (0.001, 86_400),
    "memory_mb": (4, 1 << 20),
    "output_mb": (1, 4096),
    "pids": (1, 100_000),
    "cpu_s": (0, 86_400),
    "start_s": (0.001, 3600),
    "scratch_mb": (1, 1 << 20),
    "uses": (1, 1e12),
    "age_s": (0.1, 1e9),
}


def problems_of(limits: Limits) -> list[str]:
    """Say which limits make no sense, with what would."""
    found: list[str] = []
    for field in fields(Limits):
        name, is_real = field.name, field.type == "float"
        value: object = getattr(limits, name)
        least, most = _RANGES[name]
        kinds = (int, float) if is_real else int
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        if not fits or not least <= float(str(value)) <= most:
            what = "a number" if is_real else "a whole number"
            found.append(
                f"has Limits({name}={value!r}); {what} from {least:g} to {most:g} is expected."
            )
    return found
