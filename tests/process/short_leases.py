"""`rolekit` with leases that lapse soon: python -m tests.process.short_leases up."""

from __future__ import annotations

import sys

from rolekit.cli.main import run
from rolekit.store import lease
from rolekit.store.postgres import host

LEASE_S, RENEW_S = 3.0, 0.5

for module in (lease, host):
    vars(module).update(LEASE_S=LEASE_S, RENEW_S=RENEW_S)

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
