"""Tests of the documentation: its examples and commands run, its options, links and files exist."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

import armlp
from armlp.data import catalog
from armlp.evaluation.baselines import BASELINES
from armlp.evaluation.metrics.base import METRICS
from armlp.model.families import HEADS, head_options
from armlp.model.scaling import SCALERS
from armlp.report.forecast_writer import ForecastWriter

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PACKAGES = {path.parent.name: path for path in (ROOT / "src" / "armlp").glob("*/README.md")}
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "lightning_logs/README.md", "scripts/README.md")]
PAGES = [README, *OTHERS, *PACKAGES.values()]
REGISTRIES = (HEADS, SCALERS, METRICS, BASELINES)
SMALL = {"max_steps": 4, "hidden_sizes": [8], "enable_progress_bar": False}


class QuickForecaster(armlp.Forecaster):
    """A Forecaster that trains for a moment."""

    __init__ = functools.partialmethod(armlp.Forecaster.__init__, **SMALL)


@pytest.fixture(scope="module")
def names(make_table: Any) -> dict[str, Any]:
    """What the examples take as known: two tables, and a forecaster that was fitted to the first."""
    table, other = make_table(rows=200), make_table(rows=160, first=7, seed=1)
    return {"table": table, "other_table": other, "forecaster": QuickForecaster(horizon=6, logger=False).fit(table)}


@pytest.fixture
def run_page(names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that executes the Python examples of a page in their order and returns what they have defined.

    An example whose first line is a comment of a file's name is that file.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    registered = [(registry, set(registry)) for registry in REGISTRIES]

    def run(page: Path) -> dict[str, Any]:
        defined = dict(names, QuickForecaster=QuickForecaster)
        for language, example in re.findall("```(python|yaml)\n(.*?)```", page.read_text(), re.DOTALL):
            if file := re.match(r"# (\S+\.(?:py|yaml))\n", example):
                Path(file[1]).write_text(example)
            elif language == "python":
                example = example.replace("armlp.Forecaster(", "QuickForecaster(")
                exec(compile(example, str(page), "exec"), defined)
        return defined

    yield run
    for registry, before in registered:
        for name in set(registry) - before:
            registry.unregister(name)


def test_the_examples_of_the_readme_run(run_page: Any):
    defined = run_page(README)
    assert defined["totals"].shape == (3, 3)
    assert defined["backtest"].groupby("unique_id")["cutoff"].nunique().tolist() == [5, 5, 5]
    assert set(defined["worst"]["unique_id"]) == set(defined["other_table"]["unique_id"])
    assert np.isfinite(defined["skill"])
    assert len(defined["oddest"]) == 20
    assert defined["paths"].shape == (1, 100, 48)
    assert defined["loss"] < 0.3  # that of noise of this size is about -0.5, at the start it is 0.4


@pytest.mark.parametrize("package", sorted({*PACKAGES} - {"export"}))  # that one runs without torch: tests/export
def test_the_examples_of_a_package_run(package: str, run_page: Any):
    defined = run_page(PACKAGES[package])
    if package == "data":
        assert (defined["what_if"].groupby("unique_id").head(2)["armlp"] == 50).all()
        assert set(np.unique(defined["words"])) <= set("abc")
    if package == "training":
        assert set(defined["forecaster"].scores) > {"armlp", "seasonal naive", "last value"}
    if package == "model":
        assert defined["interval"].shape == (2, 5, 100)


def test_the_lead_of_the_first_value_above_a_threshold_is_the_first():
    (line,) = re.findall(r"^first = .*$", PACKAGES["model"].read_text(), re.MULTILINE)
    paths = torch.tensor([[[1, 200, 300], [111, 0, 0], [0, 0, 110]]])
    defined: dict[str, Any] = {"torch": torch, "above": paths > 110}
    exec(line, defined)
    assert defined["first"].tolist() == [[2, 1, np.inf]]


@pytest.mark.filterwarnings("ignore:.*validation windows:UserWarning")
def test_the_commands_of_the_readme_run(program: Any, make_table: Any):
    make_table(rows=300).to_parquet("sales.parquet")
    section = README.read_text().partition("## Your own table")[2].partition("\n*")[0]
    fit, *others = re.findall(r"^    armlp (.*)$", section, re.MULTILINE)
    assert fit.split()[:3] == ["fit", "--data.source", "sales.parquet"]
    program.fit("sales.parquet", *fit.split()[3:])
    assert [command.split()[0] for command in others] == ["test", "predict"]
    for command in others:
        program(*command.split())
    assert Path("sales.png").stat().st_size > 0
    assert len(pd.read_parquet("lightning_logs/version_0/forecast.parquet")) == 3 * 28


def test_every_option_that_a_page_names_exists():
    groups: dict[str, Any] = {
        "data": armlp.SeriesDataModule, "model": armlp.ForecastModule, "forecast": ForecastWriter, "trainer": Trainer
    }  # fmt: skip
    known = {group: {*inspect.signature(kind).parameters} for group, kind in groups.items()}
    for group in ("data", "model"):
        known[group] |= {field.name for field in dataclasses.fields(groups[group].settings_class)}
    known["model"] |= {*head_options()}
    named = {(page, *found) for page in PAGES for found in re.findall(r"--(\w+)\.(\w+)", page.read_text())}
    assert len(named) > 40
    assert not [f"{page}: --{group}.{name}" for page, group, name in named if name not in known[group]]


def test_the_page_on_data_names_every_data_set():
    _, _, section = PACKAGES["data"].read_text().partition("## Data sets by name")
    assert tuple(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == catalog.names()


def test_every_link_leads_to_a_file_and_its_heading():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    assert len(links) > 30
    for page, link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            known = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in known, f"{page}: {link}"


def test_the_tree_names_every_file():
    (tree,) = re.findall("```text\n(src/armlp/\n.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    named, folders = set(), {}
    for line in tree.splitlines()[1:]:
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parent = folders.get(depth - 1, Path())
        if name.endswith("/"):
            folders[depth] = parent / name
        else:
            named.add(parent / name)
    source = ROOT / "src" / "armlp"
    assert named == {
        path.relative_to(source) for kind in ("*.py", "*.pyi", "*.yaml", "py.typed") for path in source.rglob(kind)
    }
