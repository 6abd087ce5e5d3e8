from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: no deadline per example, and slow generation is no fault of ours.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
