"""Torch's global generators are kept, seeded and restored; foreign states are refused."""

from __future__ import annotations

import pytest
import torch

from mnist_exp.data import Dataset
from mnist_exp.train.random_state import (
    all_random_states_kept,
    random_state,
    random_state_kept,
    seed_random,
    set_random_state,
)
from tests.conftest import Compose
from tests.train.test_loop import Setup

CPU = torch.device("cpu")


@pytest.mark.parametrize("kept", [lambda: random_state_kept(CPU), all_random_states_kept])
def test_a_block_leaves_no_trace(kept: type) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with kept():
        torch.rand(5)
    assert torch.rand(3).equal(expected)


def test_a_state_is_continued_and_seeds_are_those_of_manual_seed() -> None:
    state = random_state(CPU)
    first = torch.rand(3)
    set_random_state(CPU, state)
    assert torch.rand(3).equal(first)
    seed_random(CPU, 5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.rand(3).equal(drawn)


def test_a_state_from_other_hardware_is_refused_before_anything_changes(
    compose_config: Compose, mnist: Dataset
) -> None:
    state = Setup(compose_config, mnist, "model=mlp", "model.hidden_sizes=[8]").state
    foreign = state.state_dict() | {"generator": torch.zeros(16, dtype=torch.uint8), "epoch": 7}
    with pytest.raises(ValueError, match="was not saved on cpu; resume on the kind of hardware"):
        state.load_state_dict(foreign)
    assert state.epoch == 0
