"""Load tests: an open loop, a verdict, and a page that shows why.

    scenario.toml ── Scenario ── Driver ══ client processes ══► the app
                                   │  ▲          (samples)
                       chaos, watch│  └── Recorder ── Result ── JSON, report.html
                                   ▼
                             control API

An open loop sends when the arrival law says so, whether or not earlier requests were answered,
and each latency counts from when its request was due. What waits behind a stall is charged
with its wait; a loop that sends after the answer leaves that out (coordinated omission).

The clients share one schedule: all walk through it, and each sends every n-th request. They
know of each other only that.

Source: G. Tene, "How NOT to Measure Latency"; wrk2.
"""

from rolekit.load.entries import Failure, Sent
from rolekit.load.result import Checked, Ran
from rolekit.load.scenario import Run, Scenario

__all__ = ["Checked", "Failure", "Ran", "Run", "Scenario", "Sent"]
