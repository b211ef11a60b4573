"""`make load`: start mailflow, put it under load, leave the reports in `build/load`.

python -m examples.mailflow.load [SCENARIO] [--for SECONDS] [--rate N] [--broker URL]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from examples.mailflow import fleet
from rolekit.load.own_broker import offered
from rolekit.store import embedded
from rolekit.testing.broker import PrivateBroker

HERE = Path(__file__).parent
OUT = fleet.ROOT / "build" / "load"


def main() -> int:
    """Run one load test against a mailflow of its own; return its exit code."""
    try:
        return asyncio.run(_load(_options()))
    except fleet.NotStarted as error:
        print(f"mailflow did not start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mailflow load", description=(__doc__ or "").split("\n\n")[0]
    )
    known = sorted(path.stem for path in HERE.glob("*.toml"))
    parser.add_argument("scenario", nargs="?", default="steady", choices=known)
    parser.add_argument("--for", dest="for_s", default="", help="seconds")
    parser.add_argument("--rate", default="", help="mails per second")
    parser.add_argument("--traces", default="0.1", help="share of mails that are traced")
    parser.add_argument("--broker", default="", help="amqp://…, or private: one of its own")
    parser.add_argument("--database", default="", help="postgresql://…; without: embedded")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for reports")
    return parser.parse_args()


async def _load(options: argparse.Namespace) -> int:
    out = options.out / ("rabbitmq" if options.broker else "embedded")
    settings = fleet.addresses() | {"ROLEKIT_TRACES": options.traces}
    if options.broker == "private":
        with PrivateBroker() as broker, offered(broker) as offer:
            settings |= {"ROLEKIT_BROKER": broker.url(), **offer}
            return await _load_there(options, out, settings)
    if options.broker:
        settings["ROLEKIT_BROKER"] = options.broker
    return await _load_there(options, out, settings)


async def _load_there(options: argparse.Namespace, out: Path, settings: dict[str, str]) -> int:
    async with AsyncExitStack() as held:
        database = options.database
        if options.broker and not database:
            # With a broker of its own the app wants to be told where its state is.
            database = await held.enter_async_context(embedded.server(out / "home"))
        home = fleet.Home(folder=out / "home", database=database, settings=settings)
        ready = await held.enter_async_context(fleet.running(home))
        command = [
            *(sys.executable, "-m", "rolekit", "load"),
            str(HERE / f"{options.scenario}.toml"),
            *("--url", ready.target.front, "--report", str(out)),
            *(("--for", options.for_s) if options.for_s else ()),
            *(("--rate", options.rate) if options.rate else ()),
        ]
        environment = home.environment() | {
            "MAILFLOW_SMTP": f"{ready.target.smtp_host}:{ready.target.smtp_port}"
        }
        process = await asyncio.create_subprocess_exec(
            *command, cwd=fleet.ROOT, env=environment
        )
        return await process.wait()


if __name__ == "__main__":
    os.environ.pop("ROLEKIT_APP", None)  # this is about mailflow
    sys.exit(main())
