"""Tests of weight averaging, with running means by hand as the oracle."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from armlp.data.datamodule import SeriesDataModule
from armlp.training.loop.callbacks import BestCheckpoint, LastCheckpoint
from armlp.training.loop.trainer import BEST
from armlp.training.module import ForecastModule

STEPS = 12


def weights_of(module: LightningModule) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


class Diary(Callback):
    """Writes down the weights after every step and in every validation."""

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.validated: dict[int, Tensor] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.trained.append(weights_of(pl_module))

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.validated[trainer.global_step] = weights_of(pl_module)


@pytest.fixture
def trained(make_table: Any, tmp_path: Path) -> Any:
    """A maker of short trainings, and what was written down of them."""

    def train(averaging: float, steps: int = STEPS, interval: int = 2, **fit: Any) -> tuple[Diary, ForecastModule]:
        torch.manual_seed(0)
        diary, data, folder = Diary(), SeriesDataModule(make_table(), horizon=6), tmp_path / uuid4().hex
        module = ForecastModule(hidden_sizes=[4], averaging=averaging, schedule="constant", val_paths=10)
        trainer = Trainer(
            max_steps=steps,
            max_epochs=-1,
            val_check_interval=interval,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[diary, BestCheckpoint(folder, **BEST), LastCheckpoint()],
            default_root_dir=folder,
        )
        trainer.fit(module, datamodule=data, weights_only=True, **fit)
        return diary, module

    return train


def state_of(path: Path, kind: str = "state_dict") -> Tensor:
    state = torch.load(path, weights_only=True)[kind]
    return torch.cat(
        [value.flatten() for name, value in state.items() if name.startswith("network.") and "dependence" not in name]
    )


@pytest.mark.parametrize(("share", "memory"), [(1.0, 12), (0.5, 6), (1 / 3, 4), (0.01, 1)])
def test_validation_sees_a_mean_over_about_the_last_share_of_the_steps(share: float, memory: int, trained: Any):
    diary, module = trained(share)
    assert len(diary.trained) == STEPS
    assert sorted(diary.validated) == [2, 4, 6, 8, 10, 12]
    averages, average = [], torch.zeros(())
    for step, weights in enumerate(diary.trained, start=1):
        # Of as many steps as are remembered the plain mean, from there on the new one counts as one of them.
        average = (
            torch.stack(diary.trained[:step]).mean(0) if step <= memory else average + (weights - average) / memory
        )
        averages.append(average)
    for step, seen in diary.validated.items():
        assert torch.allclose(seen, averages[step - 1], atol=1e-6)
    assert torch.allclose(weights_of(module), averages[-1], atol=1e-6)
    if memory > 1:
        assert not torch.allclose(averages[-1], diary.trained[-1], atol=1e-4)


def test_averaging_does_not_change_what_is_trained(trained: Any):
    plain, averaged = (trained(share)[0] for share in (0.0, 0.5))
    assert all(one.equal(other) for one, other in zip(plain.trained, averaged.trained, strict=True))
    assert plain.validated[STEPS].equal(plain.trained[-1])


def test_checkpoints_hold_the_average_that_was_validated(trained: Any, tmp_path: Path):
    diary, module = trained(0.5)
    (best,) = tmp_path.rglob("best.ckpt")
    step = torch.load(best, weights_only=True)["global_step"]
    assert state_of(best).equal(diary.validated[step])
    assert state_of(best, "current_model_state").equal(diary.trained[step - 1])
    loaded = ForecastModule.load_from_checkpoint(best, weights_only=True)
    assert weights_of(loaded).equal(diary.validated[step])
    # In the trainer of the training, too.
    module.trainer.test(module, module.datamodule, ckpt_path=best, verbose=False, weights_only=True)
    assert weights_of(module).equal(diary.validated[step])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # the other training has a folder of its own
def test_a_finished_training_goes_on_from_its_own_weights_not_from_their_average(trained: Any, tmp_path: Path):
    trained(0.5, steps=3)  # ends between two validations
    (last,) = tmp_path.rglob("last.ckpt")
    whole, _ = trained(0.5, steps=6)
    assert torch.load(last, weights_only=True)["global_step"] == 3
    rest, _ = trained(0.5, steps=6, ckpt_path=last)
    assert len(rest.trained) == 3
    assert rest.trained[-1].equal(whole.trained[-1])
