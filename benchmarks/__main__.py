"""Run rolekit and its peers side by side, and judge the bars.

    python -m benchmarks [--only consume,publish] [--rounds N] [--quick] [--profile]

Figures go to build/bench: a line of JSON a run in history/, and a page with plots.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import history, machine
from benchmarks.contest import BUILD, OWN, Contender, Scenario, Settings, hold, missing
from benchmarks.figures import Judgement, Run, exit_code, judge
from benchmarks.scenarios import ALL, LONG
from benchmarks.servers.ground import Servers, servers

INTERRUPTED = 130


def main() -> int:
    """Read the arguments, run, report."""
    given = _arguments()
    wanted = given.only.split(",") if given.only else [one.name for one in ALL]
    known = {one.name: one for one in (*ALL, *LONG)}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"there is no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    settings = Settings(
        rounds=given.rounds,
        quick=given.quick,
        transport=given.transport,
        profile=BUILD if given.profile else None,
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        return asyncio.run(_run([known[name] for name in wanted], settings))
    except KeyboardInterrupt:
        return INTERRUPTED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0] if __doc__ else None
    )
    names = ", ".join(one.name for one in (*ALL, *LONG))
    parser.add_argument("--only", help=f"some of {names}; with commas between them")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, no bars")
    parser.add_argument(
        "--transport",
        choices=("rabbitmq", "postgres"),
        default=_transport(),
        help="what carries rolekit's messages where a scenario does not say (%(default)s)",
    )
    parser.add_argument("--profile", action="store_true", help="only rolekit, under cProfile")
    return parser.parse_args()


def _transport() -> str:
    there = importlib.util.find_spec("rolekit.transport.rabbitmq") is not None
    return "rabbitmq" if there else "postgres"


async def _run(scenarios: list[Scenario], settings: Settings) -> int:
    entry = history.Entry(machine.state(), settings)
    judgements: list[Judgement] = []
    entry.machine["spins_ms"] = spins_ms = [machine.spin_ms()]
    syncs_ms = machine.syncs_ms()
    with TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder:
        async with servers(Path(folder)) as there:
            entry.machine["servers"] = await there.versions()
            for scenario in scenarios:
                rounds, absent = await _hold(scenario, there, settings)
                # Tiny sizes say nothing, and a profiler slows down what it looks at.
                bars = () if settings.quick or settings.profile else scenario.bars
                found = [judge(bar, rounds, absent) for bar in bars]
                entry.add(scenario, rounds, absent, found)
                judgements += found
                spins_ms.append(machine.spin_ms())
                syncs_ms += [] if settings.quick else machine.syncs_ms()
    usual_ms, slowest_ms = median(syncs_ms), max(syncs_ms)
    entry.machine["fdatasync_ms"] = {"median": usual_ms, "slowest": slowest_ms}
    file = entry.write(BUILD / "history")
    print(f"\n{file}")
    await history.draw(BUILD)
    failed = [line for scenario in entry.scenarios for line in scenario.failures()]
    for line in failed:
        print(line)
    least, most = min(spins_ms), max(spins_ms)
    print(f"the machine did the same piece of Python in {least:.3g} to {most:.3g} ms")
    print(f"and made 4 KiB durable in {usual_ms:.2g} ms, the slowest time in {slowest_ms:.3g}")
    for one in judgements:
        print(one)
    return exit_code(judgements) if judgements else int(bool(failed))


async def _hold(
    scenario: Scenario, there: Servers, settings: Settings
) -> tuple[list[dict[str, Run]], dict[str, str]]:
    contenders: list[Contender] = [
        one for one in scenario.contenders if not settings.profile or one.program == OWN
    ]
    reasons = {one.name: missing(one, there, settings) for one in contenders}
    absent = {name: why for name, why in reasons.items() if why}
    print(f"\n{scenario.name}: {scenario.title}", flush=True)
    for name, why in absent.items():
        print(f"{scenario.name}: {name} is left out: {why}")
    runnable = [one for one in contenders if one.name not in absent]

    def say(line: str) -> None:
        print(line, flush=True)

    return await hold(scenario, runnable, there, settings, say), absent


if __name__ == "__main__":
    sys.exit(main())
