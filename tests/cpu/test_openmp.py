"""The program sets how OpenMP threads wait, unless the user's environment does."""

import pytest

from mnist_exp.cpu.openmp import SPINS, wait_briefly


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}),
    ],
)
def test_what_the_user_sets_stands(given: dict[str, str], expected: dict[str, str]) -> None:
    wait_briefly(given)
    assert given == expected
