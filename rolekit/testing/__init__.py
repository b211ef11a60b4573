"""For users' tests: of one method with `FakeContext`, of a whole app with `run_app`.

Decorators return the function they were given and roles take no arguments, so a handler is
a method to call. pytest finds the fixtures of `rolekit.testing.plugin` by itself.
"""

from rolekit.testing.context import FakeContext, Sent, batch_of, run_of, set_guest
from rolekit.testing.running import Running, run_app

__all__ = ["FakeContext", "Running", "Sent", "batch_of", "run_app", "run_of", "set_guest"]
