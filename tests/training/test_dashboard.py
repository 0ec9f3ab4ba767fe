"""Tests of what TensorBoard shows of a run."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from armlp.training.checkpoint import read_checkpoint
from armlp.training.dashboard import _markdown


def events_of(run: Path) -> EventAccumulator:
    """Everything that a run has logged."""
    return EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0}).Reload()


def tags_in_order(run: Path) -> list[str]:
    """The tag of every single entry."""
    (file,) = run.glob("events.out.tfevents.*")
    return [value.tag for event in EventFileLoader(str(file)).Load() for value in event.summary.value]


@pytest.fixture(scope="module")
def events(trained: Any) -> EventAccumulator:
    return events_of(trained.run)


def test_training_and_validation_are_shown_by_steps(events: EventAccumulator):
    training = ("train/loss", "train/nll", "train/learning_rate", "train/windows_per_second")
    validation = ("val/nll", "val/mae", "val/mase", "val/smape", "val/crps", "val/skill", "val/coverage_80")
    assert {*training, *validation} <= set(events.Tags()["scalars"])
    for tag in training:
        assert len(events.Scalars(tag)) == 2, tag  # 4 steps, one of two logged
    validated = [event.step for event in events.Scalars("val/mae")]
    assert len(validated) == 2
    for tag in validation:
        assert [event.step for event in events.Scalars(tag)] == validated, tag
    assert all(event.value > 0 for event in events.Scalars("train/windows_per_second"))
    assert 0 < max(event.value for event in events.Scalars("train/learning_rate")) < 2.001e-3


def test_every_validation_draws_one_fan_chart(events: EventAccumulator):
    (tag,) = events.Tags()["images"]
    charts = events.Images(tag)
    assert [chart.step for chart in charts] == [2, 4]
    assert all(chart.width > 600 and chart.encoded_image_string.startswith(b"\x89PNG") for chart in charts)
    assert charts[0].encoded_image_string != charts[1].encoded_image_string


def text_of(events: EventAccumulator, tag: str) -> dict[str, str]:
    """The first two columns of a table that was logged as text."""
    (event,) = events.Tensors(f"{tag}/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert set(lines.pop(1)) == set("|- ")
    assert len({line.count(" | ") for line in lines}) == 1
    return dict(line.strip("| ").split(" | ")[:2] for line in lines)


def test_the_data_and_what_was_chosen_from_them_are_shown_as_text(trained: Any, events: EventAccumulator):
    data, options = text_of(events, "data"), text_of(events, "options")
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


def test_a_cell_with_a_bar_in_it_stays_a_cell():
    assert _markdown(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |"


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
    (tag,) = (tag for tag in set(tags) if tag.endswith("/mase") and not tag.startswith("val/"))
    (best,) = events.Scalars(tag)
    assert best.value == min(event.value for event in events.Scalars("val/mase"))


def test_the_hyperparameters_are_those_that_were_chosen(trained: Any):
    from tensorboard.plugins.hparams import plugin_data_pb2

    (file,) = trained.run.glob("events.out.tfevents.*")
    values = (value for event in EventFileLoader(str(file)).Load() for value in event.summary.value)
    (start,) = (value for value in values if value.tag == "_hparams_/session_start_info")
    content = plugin_data_pb2.HParamsPluginData.FromString(start.metadata.plugin_data.content)
    shown = content.session_start_info.hparams
    assert shown["horizon"].number_value == 6
    assert shown["max_steps"].number_value == 4
    assert shown["context_length"].number_value > 0
    assert shown["head"].string_value == "quantile"


def test_a_point_head_shows_no_likelihood(program: Any, trained: Any):
    run = program.fit(trained.source, "--data.horizon=6", "--model.head=point")
    shown = set(events_of(run).Tags()["scalars"])
    assert {"train/loss", "val/mae", "val/skill"} <= shown
    assert not {"train/nll", "val/nll"} & shown
