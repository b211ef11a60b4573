"""What a run found, as JSON that is kept, and as a page that shows all that was kept."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from benchmarks.contest import PEERS_PYTHON, ROOT, Scenario, Settings
from benchmarks.figures import CPU_US, RATE, Judgement, Run, metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(slots=True)
class Held:
    """One scenario, run."""

    scenario: Scenario
    rounds: Sequence[Mapping[str, Run]]
    absent: Mapping[str, str]
    judgements: Sequence[Judgement]

    def failures(self) -> list[str]:
        """Say which runs gave no figure."""
        return [
            f"{self.scenario.name}: {name} failed in round {number}: {run.error}"
            for number, one in enumerate(self.rounds, 1)
            for name, run in one.items()
            if run.error
        ]

    def encoded(self) -> dict[str, object]:
        """Return it as JSON can say it."""
        return {
            "name": self.scenario.name,
            "title": self.scenario.title,
            "absent": dict(self.absent),
            "contenders": {
                one.name: self._contender(one.name)
                for one in self.scenario.contenders
                if one.name not in self.absent
            },
            "bars": [
                {
                    "name": one.bar.name,
                    "required": one.bar.required,
                    "unit": one.bar.unit,
                    "figure": None if one.figure is None else asdict(one.figure),
                    "ok": one.ok,
                    "line": str(one),
                }
                for one in self.judgements
            ],
        }

    def _contender(self, name: str) -> dict[str, object]:
        runs = [asdict(one[name]) for one in self.rounds if name in one]
        details = {
            key for run in runs for key, value in run["details"].items() if _is_number(value)
        }
        keys = (RATE, CPU_US, *sorted(details))
        spreads = {key: metric(self.rounds, name, key) for key in keys}
        return {
            "metrics": {key: asdict(found) for key, found in spreads.items() if found},
            "runs": runs,
        }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(slots=True)
class Entry:
    """One run of the benchmarks.

    Attributes:
        machine: Its state when it began.
    """

    machine: dict[str, object]
    settings: Settings
    began: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    scenarios: list[Held] = field(default_factory=list[Held])

    def add(
        self,
        scenario: Scenario,
        rounds: Sequence[Mapping[str, Run]],
        absent: Mapping[str, str],
        judgements: Sequence[Judgement],
    ) -> None:
        """Take in what a scenario gave."""
        self.scenarios.append(Held(scenario, rounds, absent, judgements))

    def write(self, folder: Path) -> Path:
        """Write the entry into the history; return its file."""
        folder.mkdir(parents=True, exist_ok=True)
        kind = "profile" if self.settings.profile else "full"
        kind = "quick" if self.settings.quick else kind
        file = folder / f"{self.began:%Y%m%dT%H%M%S}-{kind}.json"
        took_s = (dt.datetime.now(dt.UTC) - self.began).total_seconds()
        said = {
            "began": self.began.isoformat(),
            "took_s": round(took_s, 1),
            "kind": kind,
            "transport": self.settings.transport,
            "machine": self.machine,
            "scenarios": [one.encoded() for one in self.scenarios],
        }
        file.write_text(json.dumps(said, indent=1))
        return file


async def draw(build: Path) -> None:
    """Draw the page of the whole history; needs plotly, which the peers' environment has."""
    if not PEERS_PYTHON.exists():
        print("no page: the peers' environment is not there, and it has plotly")
        return
    command = [str(PEERS_PYTHON), "-m", "benchmarks.page", str(build)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    if await process.wait() == 0:
        print(build / "index.html")
