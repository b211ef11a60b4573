"""Laws are tried on many examples, without a time limit for each."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "laws",
    max_examples=1000,
    deadline=None,  # cores are shared: one slow example says nothing
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining is slow
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("laws")
