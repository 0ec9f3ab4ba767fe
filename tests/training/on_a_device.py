"""Tests of computing on a device that is not the processor: everything is there, and nothing waits for it.

The device is pretended: its tensors wrap the processor's, and operations on them are looked at before they are done.
Tensors of two devices in one operation are an error, and whatever a graphics processor would make the program wait for
is counted. So what is computed must be, to the bit, what the processor computes by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import Accelerator, CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from armlp.data.datamodule import SeriesDataModule
from armlp.data.loaders import TrainingLoader
from armlp.data.windows import Windows
from armlp.model.families import HEADS
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout
from armlp.model.scaling import SCALERS
from armlp.training.module import ForecastModule
from armlp.training.objective import FEEDS, unrolled_objective
from armlp.training.optimizers import make_optimizer

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no device that is written in Python",
)
aten = torch.ops.aten
LENGTH, PATCH, SEASON, HORIZON = 8, 2, 3, 6
# Their quantiles are not among torch's functions: scipy computes them, on the processor.
COUNTS = ("poisson", "negative_binomial")
# The size of what comes out of these, or what they are, hangs on data.
WAITING = (
    aten._local_scalar_dense, aten.bincount, aten.equal, aten.is_nonzero, aten.masked_select, aten.nonzero,
    aten._unique2, aten.unique_consecutive, aten.unique_dim,
)  # fmt: skip
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)


class There(Tensor):
    """A tensor on the pretended device; `here` is the processor's."""

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        return Tensor._make_wrapper_subclass(cls, here.shape, dtype=here.dtype, device="pretended:0", **layout)

    def __init__(self, here: Tensor) -> None:
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _looked_at(func, args, kwargs or {})


class Backend(backend_registration._DummyBackendModule):
    """What is known of the device; `free` bytes of its memory are."""

    free = 10**9

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return self.free, 10**9

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class Watch(TorchDispatchMode):
    """While it lasts, there is the device."""

    waits: list[str] = []  # noqa: RUF012  # of all watches

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _looked_at(func, args, kwargs or {})


class PretendedAccelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        assert device.type == "pretended"


def _looked_at(func, args, kwargs):
    leaves = tree_leaves((args, kwargs))
    there = [part for part in leaves if isinstance(part, There)]
    here = [part for part in leaves if isinstance(part, Tensor) and not isinstance(part, There) and part.dim()]
    device = kwargs.get("device")
    to_there = bool(there) if device is None else torch.device(device).type == "pretended"
    packet = func.overloadpacket
    if packet in (aten._to_copy, aten.copy_):
        waits = (bool(there) != to_there or bool(there and here)) and not (to_there and kwargs.get("non_blocking"))
    elif there and here:
        raise RuntimeError(f"{func}: tensors of two devices, {[tuple(part.shape) for part in here]} on the processor")
    else:
        masked = packet in INDEXING and any(part is not None and part.dtype == torch.bool for part in args[1])
        waits = bool(there) and (packet in WAITING or masked or func is aten.repeat_interleave.Tensor)
    if waits:
        Watch.waits.append(str(func))
    args_here, kwargs_here = tree_map_only(There, lambda part: part.here, (args, kwargs))
    out = func(*args_here, **(kwargs_here if device is None else kwargs_here | {"device": "cpu"}))
    if not to_there or packet is aten._local_scalar_dense:
        return out
    out = tree_map_only(Tensor, There, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if there else out


def _empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return There(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source, target, non_blocking=False):
    Watch.waits.append("copy")
    target.here.copy_(source)
    return target


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    if not hasattr(torch, "pretended"):
        backend_registration._setup_privateuseone_for_python_backend("pretended", Backend())
    # What torch makes of numbers and lists of Python goes past the mode to these.
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    yield torch.device("pretended:0")
    library._destroy()


@contextmanager
def never_waiting(but: tuple[str, ...] = ()) -> Iterator[None]:
    Watch.waits.clear()
    yield
    assert set(Watch.waits) <= set(but)


def network(**options) -> AutoregressiveMLP:
    torch.manual_seed(0)
    options = {"patch_length": PATCH, "season_length": SEASON, "hidden_sizes": [16]} | options
    options["symbols"] = 4 if options.get("head") == "symbols" else 0
    model = AutoregressiveMLP(LENGTH, dropout=0.0, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


def windows(model: AutoregressiveMLP, batch: int = 5) -> Windows:
    length = LENGTH + 3 * model.patch_length
    shape = (batch, length, model.channels)
    values = torch.randint(0, 4, shape).float() if model.symbols else 10 + torch.randn(shape)
    observed = torch.rand(shape) < 0.8
    number = torch.arange(batch)
    return Windows(values[:, :LENGTH], observed[:, :LENGTH], values[:, LENGTH:], observed[:, LENGTH:], number, number)


NETWORKS = [
    *({"head": head} for head in HEADS),
    *({"scaler": scaler} for scaler in SCALERS),
    {"patch_length": 1},
    {"patch_length": SEASON + 1},
    {"residual_blocks": 1, "mask_input": True},
    {"hidden_sizes": []},
    {"channels": 2, "non_negative": True},
    {"members": 2},
]


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_a_rollout_gives_the_same_paths_and_never_waits(device, options):
    model = network(**options).eval()
    some = windows(model)
    per_value = (model.channels, model.head.noise)
    noise = path_noise(some.series, some.origin, 4, HORIZON, per_value, seed=0)
    expected = rollout(model, some.context, HORIZON, 4, some.observed, noise)
    with Watch():
        inputs = [part.to(device) for part in (some.context, some.observed, noise)]
        model.to(device)
        with never_waiting(("aten._to_copy.default",) if options.get("head") in COUNTS else ()):
            paths = rollout(model, inputs[0], HORIZON, 4, *inputs[1:])
    assert paths.device == device
    assert torch.equal(paths.here, expected)


@pytest.mark.parametrize(
    ("options", "feed"),
    # A sample takes the most of a head; what else is fed back is computed for every kind of step.
    [(options, "sample") for options in NETWORKS]
    + [({"head": head}, feed) for head in ("normal", "categorical", "poisson") for feed in FEEDS if feed != "sample"],
    ids=str,
)
def test_a_step_of_training_gives_the_same_weights_and_never_waits(device, options, feed):
    def step(model: AutoregressiveMLP, some: Windows) -> Tensor:
        optimizer = make_optimizer("adamw", model, 0.01, 0.1, fused=True)
        drawn = {"feed": feed, "input_noise": 0.1, "lead_weighting": "near"}
        with never_waiting(("aten._to_copy.default",) if feed == "sample" and options.get("head") in COUNTS else ()):
            torch.manual_seed(1)
            objective = unrolled_objective(model, some, with_nll=True, **drawn)
            objective.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return torch.nn.utils.parameters_to_vector(model.parameters())

    model = network(**options)
    some = windows(model)
    expected = step(model, some)
    with Watch():
        model = network(**options).to(device)
        weights = step(model, Windows(*(part.to(device) for part in some[:6])))
    assert weights.device == device
    assert torch.equal(weights.here, expected)


def table(covariates: bool = False) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    lengths = [120, 120, 14, 60]
    times = [pd.date_range("2024-01-01", periods=length, freq="h") for length in lengths]
    rows = sum(lengths)
    columns = {
        "unique_id": np.repeat([f"s{number}" for number in range(len(lengths))], lengths),
        "ds": np.concatenate(times),
        "y": np.where(generator.random(rows) < 0.05, np.nan, 10 + generator.normal(size=rows)),
    }
    if covariates:
        columns["price"] = np.where(generator.random(rows) < 0.05, np.nan, generator.normal(size=rows))
        columns["shop"] = generator.choice(["a", "b"], rows)
        columns["heat"] = generator.normal(size=rows)
    return pd.DataFrame(columns)


@pytest.mark.parametrize("covariates", [False, True])
def test_batches_are_the_same_and_gathered_without_waiting(device, covariates):
    columns = {"known_covariates": ["price", "shop"], "past_covariates": ["heat"]} if covariates else {}
    panel = SeriesDataModule(table(covariates), horizon=4, calendar_inputs=["day"], **columns).panel
    expected = list(TrainingLoader(panel, panel.lengths, 24, 4, batch_size=50))
    assert any(not batch.observed[:, 0].all() for batch in expected)  # some are padded
    with Watch():
        near = panel.on_device(device)
        assert near.fully_observed is False  # which is settled once
        with never_waiting():
            batches = list(TrainingLoader(near, panel.lengths, 24, 4, batch_size=50))
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        values = [*batch[:4], *batch.covariates]
        assert all(part.device == device for part in values)
        for part, as_before in zip(values, [*other[:4], *other.covariates], strict=True):
            assert torch.equal(part.here, as_before)


def test_a_panel_that_would_fill_the_device_stays(device, monkeypatch, make_panel):
    panel = make_panel([100])
    size = panel.values.nbytes + panel.observed.nbytes
    with Watch():
        monkeypatch.setattr(Backend, "free", 4 * size)
        assert panel.on_device(device).values.device == device
        monkeypatch.setattr(Backend, "free", 4 * size - 1)
        assert panel.on_device(device) is panel
    assert panel.on_device(torch.device("cpu")) is panel


class Steps(Callback):
    """Counts what a training waits for, but for validation and the steps that log for it: the first and every third."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.batches: list[torch.device] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        # What the loader waited for too, but before the first batch, or after validation.
        self.waits += Watch.waits if batch_idx and trainer.global_step % 3 else []
        Watch.waits.clear()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.batches.append(batch.context.device)
        self.waits += Watch.waits if trainer.global_step > 1 and trainer.global_step % 3 else []
        Watch.waits.clear()


def test_the_trainer_never_waits_within_a_step_that_logs_nothing_and_scores_the_same(device):
    def fit(accelerator: Accelerator, device: torch.device) -> tuple[ForecastModule, Steps]:
        torch.manual_seed(0)
        steps = Steps()
        module, data = ForecastModule(context_length=24, hidden_sizes=[16]), SeriesDataModule(table(), horizon=4)
        strategy = SingleDeviceStrategy(device, accelerator)
        silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            strategy=strategy, max_steps=6, val_check_interval=3, check_val_every_n_epoch=None, inference_mode=False,
            enable_checkpointing=False, gradient_clip_val=1.0, log_every_n_steps=50, callbacks=[steps], **silent,
        )  # fmt: skip
        trainer.fit(module, data)
        return module, steps

    expected, _ = fit(CPUAccelerator(), torch.device("cpu"))
    with Watch():
        module, steps = fit(PretendedAccelerator(), device)
    assert steps.batches == 6 * [device]
    assert steps.waits == []
    assert module.scores["armlp"] == pytest.approx(expected.scores["armlp"])


def test_what_a_graphics_processor_waits_for_is_seen(device):
    with Watch():
        values = torch.arange(6.0, device=device)
        for wait in (
            lambda: values.sum().item(),
            lambda: bool(values.any()),
            lambda: values.nonzero(),
            lambda: values[values > 2],
            lambda: values[[0, 1]],
            lambda: values.cpu(),
            lambda: torch.ones(3).to(device),
            lambda: torch.tensor([1.0], device=device),
        ):
            Watch.waits.clear()
            wait()
            assert Watch.waits
        with never_waiting():
            torch.ones(3).to(device, non_blocking=True) + values[:3] * torch.tensor(2.0)
        with pytest.raises(RuntimeError, match="two devices"):
            values + torch.ones(6)
