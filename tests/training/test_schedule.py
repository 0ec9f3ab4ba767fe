"""Tests of the schedules: functions of the step alone."""

import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer

from armlp.data.datamodule import SeriesDataModule
from armlp.training.module import ForecastModule
from armlp.training.optimizers import SCHEDULES, chain_length, learning_rate_factor, scheduled

shares = st.floats(0, 1)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(step=st.integers(0, 3000), total=st.integers(1, 2000), warmup=shares)
@settings(max_examples=50)
def test_the_learning_rate_is_a_share_of_the_highest(schedule, step, total, warmup):
    assert 0 <= learning_rate_factor(schedule, step, total, warmup) <= 1


@given(total=st.integers(2, 500), warmup=shares)
@settings(max_examples=50)
def test_the_cosine_rises_to_the_highest_rate_and_falls_to_none(total, warmup):
    factors = [learning_rate_factor("cosine", step, total, warmup) for step in range(total + 1)]
    top = factors.index(1.0)
    assert top == max(1, round(warmup * total)) - 1
    assert factors[: top + 1] == pytest.approx([(step + 1) / (top + 1) for step in range(top + 1)])
    assert factors[top + 1 :] == sorted(factors[top + 1 :], reverse=True)
    if top + 1 < total:
        assert factors[total] == pytest.approx(0)
        middle = (top + 1 + total) / 2
        if middle == int(middle):
            assert factors[int(middle)] == pytest.approx(0.5)


def test_a_constant_rate_is_constant():
    assert {learning_rate_factor("constant", step, 100, 0.5) for step in range(200)} == {1.0}


@given(total=st.integers(1, 2000), unroll=st.integers(1, 96), growth=shares)
@settings(max_examples=100)
def test_the_chain_grows_from_one_to_its_whole_length_and_never_shrinks(total, unroll, growth):
    lengths = [chain_length(step, total, unroll, growth) for step in range(total)]
    assert lengths == sorted(lengths)
    assert all(1 <= length <= unroll for length in lengths)
    assert lengths[0] == (1 if growth else unroll)
    assert all(length == unroll for step, length in enumerate(lengths) if step >= growth * total)


@given(unroll=st.integers(1, 20), each=st.integers(1, 30), after=st.integers(1, 50))
@settings(max_examples=50)
def test_every_length_on_the_way_is_trained_for_equally_long(unroll, each, after):
    total = unroll * each + after
    lengths = [chain_length(step, total, unroll, unroll * each / total) for step in range(total)]
    for length in range(1, unroll):
        assert abs(lengths.count(length) - each) <= 1
    assert math.isclose(lengths.count(unroll), each + after, abs_tol=unroll)


def test_training_chains_as_many_patches_as_the_schedule_says(make_table: Any):
    chains = []

    class Counted(ForecastModule):
        """Counts the calls of the network in every step."""

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            calls = []
            assert self.network.layers is not None
            hook = self.network.layers.register_forward_hook(lambda *_: calls.append(1))
            loss = super().training_step(batch, batch_idx)
            hook.remove()
            chains.append(len(calls))
            return loss

    options = {"context_length": 8, "patch_length": 2, "hidden_sizes": [4], "residual_blocks": 0}
    module = Counted(**options, unroll=3, unroll_growth=0.6, feed="mean")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=10, max_epochs=-1, num_sanity_val_steps=0, enable_model_summary=False, **quiet)
    torch.manual_seed(0)
    trainer.fit(module, datamodule=SeriesDataModule(make_table(), horizon=6))
    assert chains == [1, 1, 2, 2, 3, 3, 3, 3, 3, 3]


def test_a_schedule_can_be_pickled():
    schedule = scheduled(torch.optim.SGD([torch.zeros(1)], lr=1.0), "cosine", 10, 0.2)
    (factor,) = pickle.loads(pickle.dumps(schedule)).lr_lambdas
    assert [factor(step) for step in range(12)] == [learning_rate_factor("cosine", step, 10, 0.2) for step in range(12)]
