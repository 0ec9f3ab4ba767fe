"""Tests of exported rollouts: the same paths as `rollout` and `sample`, by onnxruntime."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from torch.distributions import Distribution
from torch.export import Dim

from armlp.cli import main
from armlp.data.covariates import Covariates
from armlp.data.windows import gather
from armlp.errors import UserError
from armlp.evaluation.conformal import recalibrate
from armlp.evaluation.quantiles import forecast_columns
from armlp.export.graph import rollout_model
from armlp.export.parts import AfterLoop, BeforeLoop, LoopStep
from armlp.forecaster import Forecaster
from armlp.model.families.base import open_interval
from armlp.model.families.point import PointHead
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.rollout import path_noise, rollout

LENGTH, SEASON = 8, 3
SIZES = {"known": [0, 4], "past": [0], "calendar": [0], "static": [3]}
FACTORS = torch.linspace(0.5, 2, 44).view(4, 11)
# Every head, scaler and kind of input is in one of them. Each file takes many seconds to write, so by default
# only steps are traced, of heads that differ most from the two whose files are compared.
MODELS = {
    "point, members": dict(head="point", members=2, patch_length=2, scaler="mean_abs"),
    "linear": dict(head="point", hidden_sizes=[], seasonal_skip=False, scaler="global"),
    "normal, members, covariates": dict(head="normal", members=3, covariate_sizes=SIZES, linear_skip=False),
    "student_t, all inputs": dict(head="student_t", patch_length=3, mask_input=True, covariate_sizes=SIZES),
    "laplace, vectors": dict(head="laplace", channels=2, patch_length=2, scaler="last", mask_input=True),
    "mixture": dict(head="mixture", scaler="robust", level_input=False),
    "quantile, recalibrated": dict(head="quantile", non_negative=True, residual_blocks=1, scaler="standard"),
    "categorical, seasonal": dict(head="categorical", scaler="seasonal", patch_length=2, bins=8),
    "multivariate_normal": dict(head="multivariate_normal", channels=2, members=2, scaler="seasonal"),
    "symbols": dict(head="symbols", symbols=4, members=2),
    "poisson": dict(head="poisson"),
    "negative_binomial": dict(head="negative_binomial", patch_length=2),
}
TRACED = ("linear", "normal, members, covariates", "categorical, seasonal", "multivariate_normal", "symbols", "poisson")
EXHAUSTIVE = pytest.mark.exhaustive


def random_model(**options):
    """A network with no weight left at zero, tame enough for long rollouts."""
    torch.manual_seed(0)
    model = AutoregressiveMLP(LENGTH, **{"hidden_sizes": [6], "season_length": SEASON} | options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


def inputs_of(model, batch, paths, horizon, seed=0):
    generator = torch.Generator().manual_seed(seed)
    channels = (model.channels,) if model.channels > 1 else ()
    context = 6 + 3 * torch.randn(batch, LENGTH, *channels, generator=generator)
    if model.symbols:
        context = torch.randint(0, model.symbols, context.shape, generator=generator).float()
    observed = torch.rand(context.shape, generator=generator) > 0.25
    noise = torch.rand(batch, paths, horizon, *channels, max(1, model.head.noise), generator=generator)
    known = torch.randint(0, 4, (batch, LENGTH + horizon + 1, 2), generator=generator).float()
    covariates = Covariates(
        known,
        torch.randn(batch, LENGTH, 1, generator=generator),
        torch.randn(batch, horizon + 4, 1, generator=generator),
        torch.randint(0, 3, (batch, 1), generator=generator).float(),
    )
    given = {"context": context, "observed": observed, "noise": open_interval(noise)}
    return given | (covariates._asdict() if model.inputs.has_covariates else {})


def run(session, given):
    names = {value.name for value in session.get_inputs()}
    return session.run(None, {name: value.numpy() for name, value in given.items() if name in names})


def session_of(model):
    return onnxruntime.InferenceSession(model.SerializeToString())


def loops(model):
    return [node for node in model.graph.node if node.op_type in ("Scan", "Loop")]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MODELS)
def test_an_exported_rollout_is_the_rollout_for_any_batch_paths_and_horizon(name):
    model = random_model(**MODELS[name])
    factors = FACTORS if "recalibrated" in name else None
    after_loop = AfterLoop(model, factors, None if model.symbols else (80, 95))
    exported = rollout_model(BeforeLoop(model, {}), after_loop)
    onnx.checker.check_model(exported, full_check=True)
    assert len(loops(exported)) == 1
    session = session_of(exported)
    for batch, paths, horizon in ((3, 5, 9), (2, 4, 1), (1, 1, LENGTH + 2), (4, 7, 3 * LENGTH + 1)):
        given = inputs_of(model, batch, paths, horizon, seed=horizon)
        found = run(session, given)
        covariates = Covariates(*(given[role] for role in Covariates._fields)) if "known" in given else None
        noise = given["noise"][..., : model.head.noise]
        wanted = rollout(model, given["context"], horizon, paths, given["observed"], noise, covariates)
        if factors is not None:
            wanted = recalibrate(wanted[..., None], factors).clamp(min=0)[..., 0]
        np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-4)
        for channel in range(model.channels if not model.symbols else 0):
            at = (..., channel) if model.channels > 1 else (...,)
            columns = forecast_columns(wanted[at], (80, 95), whole=model.head.discrete)
            np.testing.assert_allclose(found[1][at], torch.stack(list(columns.values()), 1), rtol=1e-4, atol=1e-4)


@pytest.fixture
def unchecked():
    """Switches off gradients, and checks of values, which traced distributions do not have."""
    validates = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    with torch.no_grad():
        yield
    Distribution.set_default_validate_args(validates)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", [name if name in TRACED else pytest.param(name, marks=EXHAUSTIVE) for name in MODELS])
def test_a_step_of_every_head_is_traced_for_any_number_of_rows(name):
    before_loop = BeforeLoop(random_model(**MODELS[name]), {})
    step = LoopStep(before_loop)
    inputs = {}
    for name, part in zip(
        step.names, before_loop(*(one.values for one in before_loop.examples().values())), strict=True
    ):
        inputs[name] = part[0] if name in before_loop.stepped else part
    rows = tuple({0: Dim.DYNAMIC} for _ in inputs)
    traced = torch.export.export(step, tuple(inputs.values()), dynamic_shapes=(rows,)).module()
    fewer = [part[:12] for part in inputs.values()]
    for found, expected in zip(traced(*fewer), step(*fewer), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.fixture(scope="module")
def all_inputs(tmp_path_factory):
    """A model that uses every kind of input, its table, and the table of the future."""
    generator = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=120, freq="h")
    parts = []
    for name in ("a", "b", "c"):
        price = generator.normal(50, 5, len(times))
        part = pd.DataFrame({"unique_id": name, "ds": times, "price": price, "kind": f"k{name}"})
        part["wind"] = generator.normal(3, 1, len(times))
        part["promo"] = generator.choice(["no", "half", "full"], len(times))
        part["y"] = 20 + np.sin(np.arange(len(times)) / 24 * 2 * np.pi) + price / 10 + generator.normal(0, 0.3, 120)
        part.loc[generator.random(120) < 0.1, "price"] = np.nan
        part.loc[generator.random(120) < 0.1, "y"] = np.nan
        part.loc[[0, 119], "y"] = 20.0
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    past, future = table[table["ds"] < times[112]], table[table["ds"] >= times[112]].drop(columns=["y", "wind"])
    forecaster = Forecaster(
        horizon=8,
        context_length=24,
        season_length=12,
        hidden_sizes=[8],
        head="student_t",
        scaler="seasonal",
        mask_input=True,
        patch_length=2,
        conformal="split",
        val_windows=10,
        max_steps=4,
        known_covariates=["price", "promo"],
        past_covariates=["wind"],
        calendar_inputs=["day"],
        static_covariates=["kind"],
        enable_progress_bar=False,
        default_root_dir=tmp_path_factory.mktemp("all_inputs"),
    ).fit(past)
    return forecaster, past, future


def test_an_exported_file_forecasts_what_sample_does_from_columns_as_they_were_read(all_inputs, tmp_path):
    forecaster, past, future = all_inputs
    assert forecaster._module.recalibration.factors is not None
    forecaster.export(tmp_path / "model.onnx", levels=(50,))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    data = forecaster._data_of(past, future=future)
    list(data.predict_dataloader())
    panel = data.panel
    series = torch.arange(3)
    raw = gather(replace(panel, covariate_scaling=None), series, panel.lengths, 24, 0, covariate_span=8)
    categories = json.loads(metadata["known"])[1]["categories"]
    of_panel = panel.covariate_columns["known"][1].categories
    codes = torch.tensor([categories.index(name) for name in of_panel]).float()
    raw.covariates.known[..., 1] = codes[raw.covariates.known[..., 1].long()]
    noise = path_noise(panel.keys, panel.lengths, 6, 8, (2,), 3)
    context, observed = raw.context[..., 0], raw.observed[..., 0]
    given = {"context": context, "observed": observed, "noise": noise, **raw.covariates._asdict()}
    given["past"] = given["past"][:, :24]
    ahead = {"known": given["known"][:, : 24 + 6], "calendar": given["calendar"][:, :6]}
    shorter = given | ahead | {"noise": path_noise(panel.keys, panel.lengths, 4, 5, (2,), 3)}
    expected = forecaster.sample(past, 5, 4, 3, future=future)
    np.testing.assert_allclose(run(session, shorter)[0], expected, rtol=1e-4, atol=1e-4)
    paths, quantiles = run(session, given)
    np.testing.assert_allclose(paths, forecaster.sample(past, 8, 6, 3, future=future), rtol=1e-4, atol=1e-4)
    table = forecaster.predict(past, 8, (50,), 6, 3, future=future)
    for index, name in enumerate(json.loads(metadata["quantile_names"])):
        np.testing.assert_allclose(quantiles[:, index].ravel(), table[name], rtol=1e-4, atol=1e-4)
    assert metadata["frequency"] == "h"
    assert metadata["season_length"] == "12"
    assert metadata["series_kind"] == "numbers"
    inputs = json.loads(metadata["inputs"])
    assert inputs["noise"]["shape"] == ["batch", "paths", "horizon", 2]
    assert {value.name for value in session.get_inputs()} == set(inputs)
    assert json.loads(metadata["calendar"])[0] == "sine of the time of day"


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """What the command line writes."""
    folder = tmp_path_factory.mktemp("exported")
    main(["export", f"--ckpt_path={trained.best}", f"--output={folder / 'model.onnx'}", "--num_paths=50"])
    return folder / "model.onnx"


@pytest.mark.parametrize(("first", "paths", "horizon"), [(0, 5, 9), (1, 4, 1), (2, 1, 6), (0, 7, 61)])
def test_an_exported_file_forecasts_any_series_paths_and_horizon(first, paths, horizon, trained, exported):
    forecaster = Forecaster.load(trained.best, enable_progress_bar=False)
    table = trained.table[trained.table["unique_id"] >= f"s{first:02d}"]
    data = forecaster._data_of(table, horizon)
    panel, network = data.panel, forecaster._module.network
    steps = -(-horizon // network.patch_length) * network.patch_length
    length = network.context_length
    raw = gather(panel, torch.arange(len(panel)), panel.lengths, length, 0, covariate_span=steps)
    noise = path_noise(panel.keys, panel.lengths, paths, horizon, (network.head.noise,), 3)
    context, observed = raw.context[..., 0], raw.observed[..., 0]
    given = {"context": context, "observed": observed, "noise": noise, **raw.covariates._asdict()}
    assert len(loops(onnx.load(exported))) == 1
    found = run(onnxruntime.InferenceSession(exported), given)
    np.testing.assert_allclose(found[0], forecaster.sample(table, horizon, paths, 3), rtol=1e-4, atol=1e-4)
    expected = forecaster.predict(table, horizon, num_paths=paths, seed=3)
    for index, name in enumerate(("armlp", "armlp-lo-80", "armlp-hi-80", "armlp-lo-95", "armlp-hi-95")):
        np.testing.assert_allclose(found[1][:, index].ravel(), expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
def test_the_number_of_nodes_does_not_grow_with_the_horizon(trained, exported, tmp_path):
    Forecaster.load(trained.best, enable_progress_bar=False).export(tmp_path / "far.onnx", horizon=5000)
    near, far = onnx.load(exported), onnx.load(tmp_path / "far.onnx")
    assert len(near.graph.node) == len(far.graph.node)
    assert [len(loop.attribute[0].g.node) for loop in loops(near)] == [
        len(loop.attribute[0].g.node) for loop in loops(far)
    ]
    assert {entry.key: entry.value for entry in far.metadata_props}["horizon"] == "5000"


def documented_example():
    text = (Path(__file__).parents[2] / "src" / "armlp" / "export" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(import json\n\nimport numpy.*?)```", text, re.DOTALL)
    return code


def test_the_example_of_the_documentation_forecasts_without_torch_and_armlp(exported):
    blocked = "import sys\nsys.modules.update(torch=None, armlp=None, lightning=None, pandas=None)\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + documented_example() + "\nprint(quantiles.shape)"],
        cwd=exported.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    metadata = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert done.stdout.splitlines()[-1] == f"(1, 5, {metadata['horizon']})"


class OddHead(PointHead):
    """Converts a tensor to a number, which cannot be traced."""

    def forward(self, raw, shift, scale):
        return super().forward(raw + 0 * float(raw.detach().numpy().sum()), shift, scale)


def test_what_onnx_cannot_hold_is_named_with_what_to_change(trained, tmp_path):
    options = {"head": f"{__name__}.OddHead", "hidden_sizes": [4], "residual_blocks": 0, "calendar_inputs": False}
    options["min_spread"] = 0.0
    quiet = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
    forecaster = Forecaster(horizon=2, context_length=LENGTH, scaler="none", max_steps=1, **options, **quiet)
    forecaster.fit(trained.table)
    with pytest.raises(UserError, match=r"cannot hold a step of this model, whose head is OddHead .*`head`"):
        forecaster.export(tmp_path / "odd.onnx")
    assert not any(tmp_path.iterdir())


def test_export_without_what_writes_it_says_how_to_install_it(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'armlp\[export\]'"):
        Forecaster.load(trained.best, enable_progress_bar=False).export(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output=model.bin"], "must end in .onnx"),
        (["--horizon=0"], "--horizon: 0 is too small"),
        (["--num_paths=0"], "--num_paths: 0 is too small"),
        (["--levels=[120]"], "--levels: 120"),
    ],
)
def test_a_mistake_in_an_export_is_one_sentence(options, message, trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["export", f"--ckpt_path={trained.best}", f"--output={tmp_path / 'model.onnx'}", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
