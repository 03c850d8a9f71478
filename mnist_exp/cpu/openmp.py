"""How idle OpenMP threads wait for work; must be set before torch is imported."""

from __future__ import annotations

from collections.abc import MutableMapping

# Spins of GNU OpenMP's wait loop, about 25 us: roughly the time between two operations.
SPINS = "2500"


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Make idle threads spin for some 25 microseconds before they sleep.

    Threads that never sleep make a run over ten times slower on a shared processor; threads that
    sleep at once take longer to wake than many operations run. The spin count is specific to GNU's
    OpenMP; in other implementations the threads sleep.

    Parameters
    ----------
    environment : mutable mapping
        Environment variables; unchanged if ``OMP_WAIT_POLICY`` is already set.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
