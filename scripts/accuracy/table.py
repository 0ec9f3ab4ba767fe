"""The tables of results, as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from accuracy import chaos, results
from accuracy.benchmarks import ETT_HORIZONS, names

FILE = results.FILE.with_suffix(".md")
HEADER = """# How accurate are the defaults?

Written by `scripts/how_accurate.py` from `how_accurate.csv`; do not edit. Scores are on the official test parts, with
the same settings on all data sets; seconds are of one core. A model that draws random numbers has the mean ± standard
deviation over its seeds. `scripts/accuracy/scores.py` defines the scores, `scripts/accuracy/peers.py` the settings of
the other libraries.
"""
# Data set, then model and source: sMAPE, MASE.
PUBLISHED: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "m4-hourly": (("*winner of the M4 competition* [1]", "9.33", "0.893"),),
    "m3-yearly": (("*Theta, winner of the M3 competition* [2]", "16.90", ""),),
    "m3-quarterly": (("*Theta, winner of the M3 competition* [2]", "8.96", ""),),
    "m3-monthly": (("*Theta, winner of the M3 competition* [2]", "13.85", ""),),
    "m3-other": (("*Theta, winner of the M3 competition* [2]", "4.41", ""),),
    "tourism-yearly": (("*best of the Monash archive* [3]", "", "2.977"),),
    "tourism-quarterly": (("*best of the Monash archive* [3]", "", "1.475"),),
    "tourism-monthly": (("*best of the Monash archive* [3]", "", "1.382"),),
}
PUBLISHED_ETT = {
    "*DLinear, one model per horizon* [4]": ("0.375", "0.405", "0.439", "0.472"),
    "*RLinear, one model per horizon* [5]": ("0.366", "0.404", "0.420", "0.442"),
    "*PatchTST, one model per horizon* [6]": ("0.370", "0.413", "0.422", "0.447"),
}
SOURCES = """
## Sources of the published figures (in italics)

- [1] Makridakis, Spiliotis, Assimakopoulos (2020), The M4 Competition, https://doi.org/10.1016/j.ijforecast.2019.04.014
- [2] Makridakis, Hibon (2000), The M3-Competition, https://doi.org/10.1016/S0169-2070(00)00057-1
- [3] Godahewa et al. (2021), Monash Time Series Forecasting Archive, https://arxiv.org/abs/2105.06643
- [4] Zeng et al. (2023), Are Transformers Effective for Time Series Forecasting?, https://arxiv.org/abs/2205.13504
- [5] Li et al. (2023), Revisiting Long-term Time Series Forecasting, https://arxiv.org/abs/2305.10721
- [6] Nie et al. (2023), A Time Series is Worth 64 Words, https://arxiv.org/abs/2211.14730
"""
DIGITS = {"smape": 2, "mase": 3, "owa": 3, "wql": 4, "crps": 3, "cover80": 1, "cover95": 1, "fit_s": 0, "predict_s": 1}
HEADINGS = (
    "model",
    "seeds",
    "sMAPE",
    "MASE",
    "OWA",
    "WQL",
    "CRPS / MASE's unit",
    "in 80%",
    "in 95%",
    "fit s",
    "predict s",
)


def write() -> None:
    """Write the tables from all rows."""
    rows: dict[tuple[str, str], list[results.Row]] = {}
    for row in results.read():
        rows.setdefault((row["data"], row["model"]), []).append(row)
    text = [HEADER, *_conditions(), "\n## Overview: sMAPE / MASE\n", *_overview(rows)]
    for data_set in names():
        if not data_set.startswith("etth1-"):
            text += [f"\n## {data_set}\n", *_series(data_set, rows)]
    text += ["\n## ETTh1: MSE (MAE) at each horizon, every sixth origin (published: every origin)\n", *_ett(rows)]
    text += [f"\n## Chaos: median valid time of {chaos.STARTS} forecasts, Lyapunov times\n", *_chaos(rows)]
    FILE.write_text("\n".join(text) + "\n" + SOURCES)


def _conditions() -> Iterable[str]:
    """Return the dates and versions of the results, by machine."""
    machines: dict[str, dict[str, set[str]]] = {}
    for row in results.read():
        machines.setdefault(row["machine"], {}).setdefault(row["version"], set()).add(row["date"])
    for machine, versions in machines.items():
        yield f"On {machine}, one core:\n"
        for version, dates in sorted(versions.items()):
            yield f"- {version}: {' to '.join(dict.fromkeys((min(dates), max(dates))))}"


def _overview(rows: Mapping[tuple[str, str], list[results.Row]]) -> Iterable[str]:
    """Return a table of means with a row per model."""
    data_sets = [name for name in names() if not name.startswith("etth1-")]
    models = sorted({model for name, model in rows if name in data_sets})
    yield from _headings(("model", *data_sets))
    for model in models:
        each = [rows.get((name, model), []) for name in data_sets]
        values = [(_mean(found, "smape"), _mean(found, "mase")) for found in each]
        yield _line(
            model,
            *(
                f"{smape:.2f} / {mase:.3f}" if _scored(found, "smape") else _note(found)
                for found, (smape, mase) in zip(each, values, strict=True)
            ),
        )
    figures = [PUBLISHED.get(name, (("", "", ""),))[0] for name in data_sets]
    yield _line(
        "*published, see below*",
        *(" / ".join((smape or "-", mase or "-")) if name else "" for name, smape, mase in figures),
    )


def _series(data_set: str, rows: Mapping[tuple[str, str], list[results.Row]]) -> Iterable[str]:
    """Return a table with a row per model, ordered by MASE; models without a score come last."""
    found = {model: each for (name, model), each in rows.items() if name == data_set}
    yield from _headings(HEADINGS)
    for model in sorted(found, key=lambda model: (_mean(found[model], "mase"), model)):
        yield _line(
            model, str(len(found[model])), *(_cell(found[model], name, digits) for name, digits in DIGITS.items())
        )
    for model, smape, mase in PUBLISHED.get(data_set, ()):
        yield _line(model, "", smape, mase, *[""] * 7)


def _ett(rows: Mapping[tuple[str, str], list[results.Row]]) -> Iterable[str]:
    """Return a table of errors by horizon, with a row per model."""
    models = dict.fromkeys(model for name, model in rows if name.startswith("etth1-"))
    yield from _headings(("model", "seeds", *map(str, ETT_HORIZONS), "fit s, all horizons"))
    for model in models:
        each = [rows.get((f"etth1-{horizon}", model), []) for horizon in ETT_HORIZONS]
        cells = [
            f"{_cell(found, 'mse', 3)} ({_cell(found, 'mae', 3)})" if _scored(found, "mse") else _note(found)
            for found in each
        ]
        seconds = [_mean(found, "fit_s") for found in each if found]
        one_fit = model.startswith("armlp-")  # one model for all horizons
        fitted = seconds[0] if one_fit else sum(seconds)
        yield _line(model, str(max(map(len, each))), *cells, f"{fitted:.0f}" if math.isfinite(fitted) else "")
    for model, figures in PUBLISHED_ETT.items():
        yield _line(model, "", *figures, "")


def _chaos(rows: Mapping[tuple[str, str], list[results.Row]]) -> Iterable[str]:
    """Return a table of valid times by system, with a row per model."""
    models = dict.fromkeys(model for name, model in rows if name in chaos.SYSTEMS)
    yield from _headings(("model", "seeds", *chaos.SYSTEMS, "fit s, mean"))
    for model in models:
        each = [rows.get((system, model), []) for system in chaos.SYSTEMS]
        seconds = [_mean(found, "fit_s") for found in each if found]
        cells = [_cell(found, "valid_time", 2) for found in each]
        yield _line(model, str(max(map(len, each))), *cells, f"{statistics.mean(seconds):.0f}")


def _headings(headings: Sequence[str]) -> tuple[str, str]:
    return _line(*headings), _line("---", *["---:"] * (len(headings) - 1))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _scored(found: Sequence[results.Row], name: str) -> list[float]:
    return [float(row[name]) for row in found if row[name]]


def _mean(found: Sequence[results.Row], name: str) -> float:
    """Return the mean over seeds; infinite where there is none."""
    values = _scored(found, name)
    return statistics.mean(values) if values else float("inf")


def _note(found: Sequence[results.Row]) -> str:
    return found[0]["note"] if found else ""


def _cell(found: Sequence[results.Row], name: str, digits: int) -> str:
    """Return mean ± standard deviation; the note where there is no score."""
    values = _scored(found, name)
    if not values:
        return _note(found) if name in ("smape", "valid_time") else ""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 and not name.endswith("_s") else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"
