"""Tests of the catalog: what its data sets hold, against the literature, and how it refuses."""

import hashlib
import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.special

from armlp.data import catalog
from armlp.data.catalog import downloads, generated
from armlp.data.panel import Panel
from armlp.data.tables.read import read_panel
from armlp.errors import UserError


def last_times(panel):
    """The time of each series' last row, as its calendar counts."""
    return panel.calendar.shift(panel.starts, panel.lengths.numpy() - 1)


def panel_of(name: str) -> Panel:
    """A data set, read as the data module reads it."""
    source, options = catalog.resolve(name)
    return read_panel(source, **options.reader)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for downloads, and no way to download."""

    def no_network(url: str, *args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("ARMLP_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.core.choose_downloader", lambda url, progressbar: no_network)
    return tmp_path


def put(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Put a small file in the place of an official one."""
    (folder / name).write_text(text)
    monkeypatch.setitem(downloads._SHA256, name, hashlib.sha256(text.encode()).hexdigest())


def test_the_default_is_twelve_weeks_of_half_hours_from_a_monday() -> None:
    panel = panel_of(catalog.DEFAULT)
    options = catalog.get(catalog.DEFAULT).defaults
    assert (len(panel), len(panel.values), panel.calendar.freq) == (1, 12 * 336, "30min")
    assert str(panel.calendar.instants(panel.starts[:1])[0])[:19] == "2000-06-05T00:00:00"
    assert (options.horizon, options.season_length) == (48, 336)
    assert panel.values[:3, 0].tolist() == [22262, 21756, 22247]


def test_air_passengers_are_all_twelve_years() -> None:
    panel = panel_of("air-passengers")
    assert (len(panel.values), panel.calendar.freq) == (144, "MS")
    assert panel.values[[0, -1], 0].tolist() == [112, 432]
    assert str(panel.calendar.instants(last_times(panel))[0]).startswith("1960-12-01")


# Numbers of series, horizons, seasons, and shortest and longest training parts, from the papers.
@pytest.mark.parametrize(
    ("name", "count", "horizon", "season", "shortest", "longest"),
    [
        ("m1-yearly", 181, 6, 1, 9, 52),
        ("m1-quarterly", 203, 8, 4, 10, 106),
        ("m1-monthly", 617, 18, 12, 30, 132),
        ("m3-yearly", 645, 6, 1, 14, 41),
        ("m3-quarterly", 756, 8, 4, 16, 64),
        ("m3-monthly", 1428, 18, 12, 48, 126),
        ("m3-other", 174, 8, 1, 63, 96),
        ("tourism-yearly", 518, 4, 1, 7, 43),
        ("tourism-quarterly", 427, 8, 4, 22, 122),
        ("tourism-monthly", 366, 24, 12, 67, 309),
    ],
)
def test_competitions_have_the_sizes_of_the_literature_and_tests_that_go_on(
    name: str, count: int, horizon: int, season: int, shortest: int, longest: int
) -> None:
    entry, train = catalog.get(name), panel_of(name)
    assert entry.load_test is not None
    test = read_panel(entry.load_test())
    assert (len(train), len(test)) == (count, count)
    assert (int(train.lengths.min()), int(train.lengths.max())) == (shortest, longest)
    assert (entry.defaults.horizon, entry.defaults.season_length) == (horizon, season)
    assert train.fully_observed
    assert (test.lengths == horizon).all()
    assert (train.starts == 1).all()
    assert (test.ids == train.ids).all()
    assert (test.starts == last_times(train) + 1).all()


@pytest.mark.parametrize("name", ["sine", "mackey-glass", "lorenz", "markov"])
def test_generated_data_are_the_same_at_every_call(name: str) -> None:
    assert panel_of(name).values.equal(panel_of(name).values)


def test_lorenz_is_one_series_of_three_channels_that_obeys_its_equations() -> None:
    panel = panel_of("lorenz")
    assert (len(panel), panel.channels) == (1, ("x", "y", "z"))
    x, y, z = catalog.get("lorenz").load()[["x", "y", "z"]].to_numpy().T
    slopes = 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z
    for value, slope in zip((x, y, z), slopes, strict=True):
        # Simpson's rule over two steps is exact to the fourth order, as the integration is.
        change = 0.02 / 3 * (slope[:-2] + 4 * slope[1:-1] + slope[2:])
        assert np.abs(value[2:] - value[:-2] - change).max() < 0.02


def test_mackey_glass_obeys_its_delayed_equation() -> None:
    value = catalog.get("mackey-glass").load()["y"].to_numpy()
    now, delayed = value[17:], value[:-17]
    slope = 0.2 * delayed / (1 + delayed**10) - 0.1 * now
    change = (slope[:-2] + 4 * slope[1:-1] + slope[2:]) / 3
    assert np.abs(now[2:] - now[:-2] - change).max() < 0.01
    assert value.std() > 0.2


def test_sines_repeat_after_their_season() -> None:
    table = catalog.get("sine").load()
    one = table[table.unique_id == "sine-0"].y.to_numpy()
    assert np.corrcoef(one[24:], one[:-24])[0, 1] > 0.95


def test_a_file_put_into_the_folder_is_used_without_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, monkeypatch, "ETTh1.csv", "date,HUFL,OT\n2016-07-01 00:00:00,1,2\n2016-07-01 01:00:00,3,4\n")
    panel = panel_of("etth1")
    assert (panel.ids.tolist(), panel.calendar.freq) == (["HUFL", "OT"], "h")


def test_official_m4_files_become_long_tables_whose_test_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, monkeypatch, "Hourly-train.csv", '"V1","V2","V3","V4"\n"H1",1,2,3\n"H2",4,5,\n')
    put(folder, monkeypatch, "Hourly-test.csv", '"V1","V2","V3"\n"H1",6,7\n"H2",8,9\n')
    entry = catalog.get("m4-hourly")
    assert entry.load_test is not None
    assert entry.load().to_numpy().tolist() == [
        ["H1", 1, 1], ["H1", 2, 2], ["H1", 3, 3], ["H2", 1, 4], ["H2", 2, 5]
    ]  # fmt: skip
    assert entry.load_test().to_numpy().tolist() == [["H1", 4, 6], ["H1", 5, 7], ["H2", 3, 8], ["H2", 4, 9]]


def test_m4_tables_put_into_the_folder_by_hand_are_taken_as_they_are(folder: Path) -> None:
    table = pd.DataFrame({"unique_id": "H1", "ds": [0, 1], "y": [1.0, 2.0]})
    for part in ("train", "test"):
        table.to_parquet(folder / f"m4_hourly_{part}.parquet")
    entry = catalog.get("m4-hourly")
    assert entry.load_test is not None
    assert panel_of("m4-hourly").values[:, 0].tolist() == [1, 2]
    assert len(read_panel(entry.load_test()).values) == 2


@pytest.mark.parametrize(
    ("name", "file", "host"),
    [
        ("etth2", "ETTh2.csv", "zhouhaoyi/ETDataset"),
        ("m4-daily", "Daily-train.csv", "Mcompetitions/M4-methods"),
    ],
)
def test_a_download_that_fails_says_what_to_put_where(name: str, file: str, host: str, folder: Path) -> None:
    with pytest.raises(UserError) as error:
        catalog.get(name).load()
    for part in ("https://", host, str(folder), "no network", f"put {file} there", "ARMLP_DATA"):
        assert part in str(error.value)


def test_a_file_of_other_content_is_not_trusted(folder: Path) -> None:
    (folder / "ETTh1.csv").write_text("date,OT\n2016-07-01,1\n")
    with pytest.raises(UserError, match=r"ETTh1\.csv could not be downloaded"):
        catalog.get("etth1").load()


def test_every_checksum_is_one() -> None:
    assert all(len(bytes.fromhex(checksum)) == 32 for checksum in downloads._SHA256.values())
    assert len(set(downloads._SHA256.values())) == len(downloads._SHA256)


def test_an_unknown_name_is_refused_with_all_names_and_the_closest_first() -> None:
    with pytest.raises(UserError) as error:
        catalog.resolve("tailor")
    sentence = str(error.value)
    assert sentence.partition("one of ")[2].startswith("taylor")
    assert all(name in sentence for name in catalog.names())


def test_what_looks_like_a_path_or_is_a_table_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    table = pd.DataFrame({"ds": [1], "y": [1.0]})
    for source in ("missing.csv", "some/where", "mine", "*.parquet", tmp_path, table):
        assert catalog.resolve(source) == (source, catalog.Defaults()) or source is table
    assert catalog.resolve(table)[0] is table


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(UserError, match=r"`source` is empty"):
        catalog.resolve("")


def test_every_entry_names_its_source_and_licence() -> None:
    assert all(catalog.get(name).citation and catalog.get(name).licence for name in catalog.names())


@pytest.mark.parametrize("name", [name for name in catalog.names() if not name.startswith(("m4-", "ett"))])
def test_an_entry_says_how_many_series_it_has(name: str) -> None:
    assert len(panel_of(name)) == catalog.get(name).series


def test_the_catalog_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_module("armlp.data.catalog")
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "series", "frequency", "horizon", "what", "it", "holds", "source"]
    assert [line.split()[0] for line in lines] == list(catalog.names())
    assert re.search(r"^taylor +1 +half-hourly +48 +electricity .* Taylor \(2003\)", lines[0])


def test_markov_letters_depend_on_the_two_before_with_the_stated_entropy() -> None:
    panel = panel_of("markov")
    assert (panel.symbols, len(panel), len(panel.values)) == (tuple("abcdef"), 1, 20_000)
    codes = panel.values[:, 0].numpy().astype(int)
    counts = np.zeros((6, 6, 6))
    np.add.at(counts, (codes[:-2], codes[1:-1], codes[2:]), 1)
    rows = counts.sum(-1, keepdims=True)
    measured = -scipy.special.xlogy(counts, counts / rows.clip(1)).sum() / counts.sum()
    # What a fit to counts gains by chance is half its number of parameters over the number of draws (Miller, 1955).
    assert measured + 36 * 5 / 2 / 20_000 == pytest.approx(generated.markov_entropy(), abs=0.015)
    one = counts.sum(0)
    of_one_letter = -scipy.special.xlogy(one, one / one.sum(-1, keepdims=True)).sum() / one.sum()
    assert of_one_letter > generated.markov_entropy() + 0.1  # a single letter predicts less
