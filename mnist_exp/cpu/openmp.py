"""How OpenMP's threads wait for the next operation; to be said before torch is imported."""

from __future__ import annotations

from collections.abc import MutableMapping

# Turns of the waiting loop of GNU's OpenMP, some 25 us: about the time between two operations.
SPINS = "2500"


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Let waiting threads look out for work for some microseconds and then sleep.

    Threads that never sleep make a run take over ten times as long where others want the processor
    too; those that always sleep take longer to wake up than many an operation takes. OpenMP of
    another make than GNU's has no such setting, and its threads sleep.

    Parameters
    ----------
    environment : mutable mapping
        Environment variables; left as they are where ``OMP_WAIT_POLICY`` is set already.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
