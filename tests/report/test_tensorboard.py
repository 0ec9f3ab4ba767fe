"""Tests of what TensorBoard shows of a run."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.custom_scalar import layout_pb2
from torch import Tensor

import armlp
from armlp.data.datamodule import SeriesDataModule
from armlp.data.windows import Windows
from armlp.parser import with_flags
from armlp.report.forecast_writer import ForecastWriter
from armlp.report.tensorboard import Dashboard, TestDashboard
from armlp.training.loop.callbacks import BestCheckpoint
from armlp.training.loop.checkpoint import read_checkpoint
from armlp.training.loop.trainer import BEST
from armlp.training.module import ForecastModule

FORECASTS = ("forecast_best", "forecast_median", "forecast_worst")
CHARTS = (*FORECASTS, "dependence", "leads", "pit", "reliability", "residuals")


def events_of(run: Path) -> EventAccumulator:
    """Everything that a run has logged."""
    return EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0}).Reload()


def tags_in_order(run: Path) -> list[str]:
    """The tag of every single entry."""
    (file,) = run.glob("events.out.tfevents.*[0-9]")  # a test's file has a suffix
    return [value.tag for event in EventFileLoader(str(file)).Load() for value in event.summary.value]


@pytest.fixture(scope="module")
def events(trained: Any) -> EventAccumulator:
    return events_of(trained.run)


def test_training_and_validation_are_shown_by_steps(events: EventAccumulator):
    training = (
        "train/loss", "train/nll", "train/learning_rate", "train/gradient_norm", "train/unroll",
        "train/windows_per_second",
    )  # fmt: skip
    validation = (
        "val/nll", "val/mae", "val/mase", "val/smape", "val/crps", "val/skill", "val/coverage_80", "val/diverged",
    )  # fmt: skip
    assert {*training, *validation} <= set(events.Tags()["scalars"])
    for tag in training:
        assert len(events.Scalars(tag)) == 2, tag  # 4 steps, one of two logged
    validated = [event.step for event in events.Scalars("val/mae")]
    assert len(validated) == 2
    for tag in validation:
        assert [event.step for event in events.Scalars(tag)] == validated, tag
    assert all(event.value > 0 for event in events.Scalars("train/windows_per_second"))
    assert 0 < max(event.value for event in events.Scalars("train/learning_rate")) < 2.001e-3


def test_of_a_short_training_the_best_validation_alone_is_drawn(events: EventAccumulator):
    images = {tag for tag in events.Tags()["images"] if not tag.startswith("test/")}
    assert images == {f"val_best/{name}" for name in CHARTS}
    for tag in images:
        for chart in events.Images(tag):
            assert chart.width > 600
            assert chart.encoded_image_string.startswith(b"\x89PNG")


def fingerprint(figure: Figure, close: bool = True) -> np.ndarray:
    """Return a tiny image that depends on the lines of a figure, in place of a slow picture."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for axis in figure.axes for line in axis.get_lines()]
    digest = hashlib.sha256(np.concatenate(lines).tobytes()).digest()
    return np.frombuffer(digest[:30], dtype=np.uint8).reshape(3, 1, 10)


def test_the_best_validation_is_drawn_as_it_was_when_it_was_validated(trained: Any, tmp_path: Path, drawing: Any):
    # The rate is so high that the model gets worse.
    module = ForecastModule(hidden_sizes=[8], residual_blocks=1, learning_rate=1, schedule="constant", warmup=0)
    dashboard, best = Dashboard(), BestCheckpoint(**BEST)
    dashboard.seconds_between_charts = 0
    trainer = Trainer(
        max_steps=5, val_check_interval=1, check_val_every_n_epoch=None, num_sanity_val_steps=0,
        logger=TensorBoardLogger(tmp_path, default_hp_metric=False), callbacks=[dashboard, best],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with drawing(fingerprint):
        trainer.fit(module, datamodule=SeriesDataModule(trained.table, horizon=6))
    events = events_of(Path(str(trainer.log_dir)))
    for chart in FORECASTS:
        drawn = {image.step: image.encoded_image_string for image in events.Images(f"val/{chart}")}
        assert list(drawn) == [1, 2, 3, 4, 5]
        (image,) = events.Images(f"val_best/{chart}")
        assert image.step == 5
        assert best.checkpoint()["global_step"] < 5
        assert image.encoded_image_string == drawn[best.checkpoint()["global_step"]] != drawn[5]


def test_lead_curves_are_the_scores_of_the_best_validation(events: EventAccumulator):
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("val_best/lead_")]
    for name in ("armlp", "seasonal_naive", "Naive2", "drift", "ridge_AR"):
        for metric in ("mae", "crps"):
            assert f"val_best/lead_{metric}/{name}" in tags
    for tag in tags:
        assert [event.step for event in events.Scalars(tag)] == [1, 2, 3, 4, 5, 6], tag
    (best,) = events.Scalars("val_best/mae")
    curve = [event.value for event in events.Scalars("val_best/lead_mae/armlp")]
    assert sum(curve) / 6 == pytest.approx(best.value, rel=1e-5)  # nothing is missing, so each lead counts alike


def test_the_layout_has_four_charts_whose_tags_there_are(trained: Any, events: EventAccumulator):
    assert tags_in_order(trained.run).count("custom_scalars__config__") == 1
    (event,) = events.Tensors("custom_scalars__config__")
    (category,) = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0]).category
    assert len(category.chart) == 4
    for chart in category.chart:
        for tag in chart.multiline.tag:
            assert any(re.match(tag, known) for known in events.Tags()["scalars"]), (chart.title, tag)


def test_the_model_card_shows_options_scores_and_limitations(trained: Any, events: EventAccumulator):
    (event,) = events.Tensors("model_card/text_summary")
    card = event.tensor_proto.string_val[0].decode()
    for words in (
        "autoregressive MLP",
        "`quantile`",
        "3 origins x 6 steps",
        "seasonal naive",
        "Limits",
        "3 origins only",
    ):
        assert words in card
    printed = " ".join(trained.printed.split())
    (sentence,) = (line for line in card.splitlines() if "seasonal naive" in line and not line.startswith("|"))
    assert with_flags(sentence, "fit") in printed


def test_the_versions_that_a_run_was_made_with_are_shown(events: EventAccumulator):
    shown = text_of(events, "versions")
    assert shown["armlp"] == armlp.__version__
    assert shown["torch"] == torch.__version__
    assert shown["device"] == "cpu"


def test_every_option_is_shown_as_it_was_settled(trained: Any, events: EventAccumulator):
    checkpoint = read_checkpoint(trained.best)
    shown = text_of(events, "options")
    assert set(shown) - {"option"} == {
        *checkpoint["hyper_parameters"],
        *checkpoint["datamodule_hyper_parameters"],
        "max_steps",
    }
    assert shown["context_length"] == str(checkpoint["hyper_parameters"]["context_length"])


def test_a_test_is_shown_in_the_run_of_its_checkpoint_and_replaces_an_earlier_one(program: Any, trained: Any):
    run = program.fit(trained.source, "--data.horizon=6", "--data.test_windows=2", logs=True)
    for _ in range(2):
        program("test", "--ckpt_path", run / "checkpoints" / "best.ckpt")
        assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]
        (file,) = run.glob("events.out.tfevents.*.test")
    values = (value for event in EventFileLoader(str(file)).Load() for value in event.summary.value)
    tags = {value.tag for value in values}
    assert all(tag.split("/")[0] == "test" for tag in tags)
    shown = ("mae", "skill", "coverage_80", "diverged", "lead_mae/drift", *CHARTS)
    assert {f"test/{name}" for name in shown} <= tags
    events = events_of(run)  # both files are one run
    assert {"val/mae", "test/mae"} <= set(events.Tags()["scalars"])
    curve = [event.value for event in events.Scalars("test/lead_mae/armlp")]
    assert len(curve) == 6
    assert sum(curve) / 6 == pytest.approx(events.Scalars("test/mae")[0].value, rel=1e-5)


class Doubled(ForecastModule):
    """Forecasts that are not what the network says, as recalibrated ones are not."""

    def forward(self, windows: Windows, given: Tensor | None = None) -> Tensor:
        return 2 * self.sample(windows, self.sampling)


def test_a_picture_of_a_test_shows_what_its_table_says(trained: Any, tmp_path: Path, drawing: Any):
    figures: list[Figure] = []
    blank = np.zeros((3, 1, 1), dtype=np.uint8)
    shutil.copytree(trained.run, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    checkpoint = read_checkpoint(path)
    module = Doubled(**checkpoint["hyper_parameters"])
    module.load_state_dict(checkpoint["state_dict"])
    forecasts = ForecastWriter()
    trainer = Trainer(logger=False, callbacks=[forecasts, TestDashboard(path)], enable_progress_bar=False)
    data = SeriesDataModule(**checkpoint["datamodule_hyper_parameters"])
    with drawing(lambda figure, close: figures.append(figure) or blank):
        trainer.test(module, datamodule=data, verbose=False)
    rows = forecasts.table.to_pandas().set_index(["unique_id", "ds"])
    fans = [axis for figure in figures for axis in figure.axes if "MASE" in axis.get_title(loc="left")]
    assert len(fans) == 3
    for axis in fans:
        series = axis.get_title(loc="left").split(", ")[1]
        (median,) = (line for line in axis.get_lines() if line.get_label() == "armlp")
        expected = rows.loc[[(series, time) for time in median.get_xdata()]]
        assert median.get_ydata() == pytest.approx(expected["armlp"], rel=1e-5)
        for level in (80, 95):
            (band,) = (area for area in axis.collections if area.get_label() == f"{level}% interval")
            (outline,) = band.get_paths()
            for bound in ("lo", "hi"):
                for value in expected[f"armlp-{bound}-{level}"]:
                    assert np.abs(outline.vertices[:, 1] - value).min() < 1e-4


def test_a_checkpoint_away_from_its_run_makes_none(program: Any, trained: Any, tmp_path: Path):
    Path("model.ckpt").write_bytes(trained.best.read_bytes())
    program("test", "--ckpt_path", "model.ckpt", "--forecast.output=b.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.parquet", "model.ckpt"]


def text_of(events: EventAccumulator, tag: str) -> dict[str, str]:
    """The first two columns of a table that was logged as text."""
    (event,) = events.Tensors(f"{tag}/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert set(lines.pop(1)) == set("|- ")
    assert len({line.count(" | ") for line in lines}) == 1
    return dict(line.strip("| ").split(" | ")[:2] for line in lines)


def test_the_data_and_the_chosen_options_are_shown_as_text(trained: Any, events: EventAccumulator):
    data, options = text_of(events, "data"), text_of(events, "settled")
    assert data["data"] == str(trained.source)
    assert data["length"] == "96 steps"
    assert data["validation"].startswith("3 origins x 6 steps, 2024-01-04 06:00 to")
    checkpoint = read_checkpoint(trained.best)
    for name, value in options.items():
        if name in checkpoint["hyper_parameters"]:
            assert value == str(checkpoint["hyper_parameters"][name])
    printed = " ".join(trained.printed.replace("│", " ").split())
    for name in ("series", "length", "frequency", "season", "shortest usable"):
        assert f"{name} {data[name]}" in printed


def test_the_file_of_hyperparameters_holds_those_that_were_chosen(trained: Any):
    written = yaml.safe_load((trained.run / "hparams.yaml").read_text())
    checkpoint = read_checkpoint(trained.best)
    assert written.pop("max_steps") == 4
    assert written == checkpoint["hyper_parameters"] | checkpoint["datamodule_hyper_parameters"]


def test_hyperparameters_are_logged_once_with_the_metrics_of_the_best_validation(
    trained: Any, events: EventAccumulator
):
    tags = tags_in_order(trained.run)
    assert tags.count("_hparams_/experiment") == 1
    assert tags.count("_hparams_/session_start_info") == 1
    assert not any("hp_metric" in tag for tag in tags)
    tag = "val_best/mase"
    (best,) = events.Scalars(tag)
    monitored, measured = events.Scalars("val/scaled_crps"), events.Scalars("val/mase")
    chosen = min(monitored, key=lambda event: event.value).step
    assert [best.value] == [event.value for event in measured if event.step == chosen]


def test_the_hyperparameters_are_those_that_were_chosen(trained: Any):
    from tensorboard.plugins.hparams import plugin_data_pb2

    (file,) = trained.run.glob("events.out.tfevents.*[0-9]")
    values = (value for event in EventFileLoader(str(file)).Load() for value in event.summary.value)
    (start,) = (value for value in values if value.tag == "_hparams_/session_start_info")
    content = plugin_data_pb2.HParamsPluginData.FromString(start.metadata.plugin_data.content)
    shown = content.session_start_info.hparams
    assert shown["horizon"].number_value == 6
    assert shown["max_steps"].number_value == 4
    assert shown["context_length"].number_value > 0
    assert shown["head"].string_value == "quantile"


def test_a_point_head_shows_no_likelihood(program: Any, trained: Any):
    run = program.fit(trained.source, "--data.horizon=6", "--model.head=point", logs=True)
    shown = set(events_of(run).Tags()["scalars"])
    assert {"train/loss", "val/mae", "val/skill"} <= shown
    assert not {"train/nll", "val/nll"} & shown
