"""An app that starts a thread when it is imported, as some libraries do."""

from __future__ import annotations

import threading

from tests.process.fleet_app import Front, Parent, Steady, app_of

threading.Thread(target=threading.Event().wait, daemon=True).start()

threaded = app_of("threaded", Steady, Front, Parent)
leftover = app_of("leftover", Steady)
