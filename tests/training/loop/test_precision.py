"""Tests of mixed precision: what computes in 16 bits, what does not, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer

from armlp import ForecastModule, SeriesDataModule
from armlp.data.windows import Windows
from armlp.errors import UserError
from armlp.forecaster import Forecaster
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.loop.trainer import check_precision
from armlp.training.objective import unrolled_objective

LENGTH, PATCH = 12, 2
HEADS = ("point", "normal", "student_t", "laplace", "mixture", "quantile", "categorical", "poisson")


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


def some_windows(seed, links=2):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(1, 30, (16, LENGTH + links * PATCH), generator=generator).float()
    context, target = values[..., None].split([LENGTH, links * PATCH], 1)
    seen = [torch.ones_like(part, dtype=torch.bool) for part in (context, target)]
    return Windows(context, seen[0], target, seen[1], torch.zeros(16, dtype=torch.int64), torch.full((16,), LENGTH))


@settings(max_examples=25)
@given(
    head=st.sampled_from(HEADS),
    scaler=st.sampled_from(["none", "mean_abs", "standard"]),
    skips=st.booleans(),
    feed=st.sampled_from(["mean", "truth"]),
    members=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_network_computes_in_bfloat16_and_distributions_and_losses_in_float32(
    head, scaler, skips, feed, members, seed
):
    torch.manual_seed(seed)
    model = AutoregressiveMLP(
        LENGTH, PATCH, [8], head=head, scaler=scaler, linear_skip=skips, seasonal_skip=skips, members=members
    )
    inner, outer = [], []
    model.layers.register_forward_hook(lambda _module, _inputs, output: inner.append(output.dtype))
    model.head.register_forward_pre_hook(lambda _module, inputs: outer.extend(part.dtype for part in inputs))
    objective = unrolled_objective(model, some_windows(seed), feed=feed, with_nll=True, precision=bfloat16)
    objective.loss.backward()
    assert set(inner) == {torch.bfloat16}
    assert set(outer) == {torch.float32}
    measured = [part for part in objective if part is not None]
    assert all(part.dtype == torch.float32 and bool(part.isfinite()) for part in measured)
    assert all(weight.dtype == weight.grad.dtype == torch.float32 for weight in model.parameters())
    full = unrolled_objective(model, some_windows(seed), feed=feed)
    if scaler != "none":  # an untrained network is so sure of itself that rounding counts where nothing is scaled
        assert objective.loss.item() == pytest.approx(full.loss.item(), rel=0.02, abs=0.02)


def fitted(make_table, precision, max_steps=120, kind=ForecastModule, **options):
    """A module after a short training."""
    torch.manual_seed(0)
    data = SeriesDataModule(make_table(series=4, rows=240), horizon=12, batch_size=64)
    options = {"hidden_sizes": [32], "residual_blocks": 0, "patch_length": 12, "unroll": 1} | options
    module = kind(context_length=48, **options)
    trainer = Trainer(
        precision=precision, max_steps=max_steps, max_epochs=-1, gradient_clip_val=1.0, logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("adam", marks=pytest.mark.exhaustive)])
def test_training_in_bfloat16_forecasts_about_as_well(make_table, optimizer):
    scores = [
        fitted(make_table, precision, optimizer=optimizer).scores["armlp"] for precision in ("32-true", "bf16-mixed")
    ]
    assert scores[1]["crps"] == pytest.approx(scores[0]["crps"], rel=0.05)
    assert scores[1]["nll"] == pytest.approx(scores[0]["nll"], abs=0.1)


def test_forecasts_of_a_training_in_bfloat16_are_of_float32(make_table):
    dtypes = set()

    class Watched(ForecastModule):
        def validation_step(self, batch, batch_idx):
            assert torch.is_autocast_enabled("cpu")  # Lightning's, around the step
            hook = self.network.layers.register_forward_hook(lambda _module, _inputs, output: dtypes.add(output.dtype))
            paths = super().validation_step(batch, batch_idx)
            hook.remove()
            return paths

    fitted(make_table, "bf16-mixed", max_steps=20, kind=Watched)
    assert dtypes == {torch.float32}


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_in_every_precision(make_table, algorithm, precision):
    norms = []

    class Watched(ForecastModule):
        def optimizer_step(self, *args, **options):
            super().optimizer_step(*args, **options)
            gradients = torch.cat([weight.grad.flatten() for weight in self.parameters()])
            norms.append(float(gradients.norm() if algorithm == "norm" else gradients.abs().max()))

    data = SeriesDataModule(make_table(), horizon=12, batch_size=32)
    trainer = Trainer(
        precision=precision, max_steps=5, max_epochs=-1, gradient_clip_val=1e-4, gradient_clip_algorithm=algorithm,
        logger=False, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(Watched(context_length=24, patch_length=12, unroll=1), datamodule=data)
    assert len(norms) == 5
    assert max(norms) <= 1.01e-4


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_a_precision_in_which_likelihoods_mean_nothing_is_refused(precision):
    trainer = Trainer(precision=precision, accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1)
    with pytest.raises(UserError, match=r"`trainer.precision`: .*16-true .*use bf16-mixed"):
        check_precision(trainer)


@pytest.mark.parametrize(
    ("precision", "device", "capability", "sentence"),
    [
        ("bf16-mixed", "cuda", (7, 5), "compute capability 8.0 or higher, but Old GPU has 7.5; use 16-mixed"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(monkeypatch, precision, device, capability, sentence):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    trainer = SimpleNamespace(precision=precision, strategy=SimpleNamespace(root_device=torch.device(device)))
    with pytest.raises(UserError, match=sentence):
        check_precision(trainer)


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_a_precision_that_a_new_gpu_has_is_taken(monkeypatch, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    check_precision(SimpleNamespace(precision=precision, strategy=SimpleNamespace(root_device=torch.device("cuda"))))


@pytest.mark.parametrize("precision", [64, "64", "64-true"])
def test_double_precision_is_refused_in_one_sentence(program, make_table, precision):
    make_table().to_parquet("table.parquet")
    sentence = program.refuses("fit", "--data.source=table.parquet", f"--trainer.precision={precision}")
    assert "--trainer.precision: 64-true is not supported" in sentence
    assert "32-true" in sentence
    with pytest.raises(UserError, match="64-true is not supported"):
        Forecaster(precision=precision, max_steps=1, enable_progress_bar=False).fit(make_table())


def test_a_forecast_refuses_double_precision_too(program, trained):
    sentence = program.refuses("predict", "--ckpt_path", trained.best, "--trainer.precision=64")
    assert "--trainer.precision: 64-true is not supported" in sentence


def test_a_module_refuses_before_it_settles(make_table):
    trainer = Trainer(precision="bf16-true", accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1)
    with pytest.raises(UserError, match=r"`trainer.precision`"):
        trainer.fit(ForecastModule(), datamodule=SeriesDataModule(make_table()))


def test_the_optimizer_is_fused_where_gradients_have_no_scale(make_table):
    module = fitted(make_table, "bf16-mixed", max_steps=1)
    assert isinstance(module, LightningModule)
    assert module.trainer.optimizers[0].defaults["fused"]
