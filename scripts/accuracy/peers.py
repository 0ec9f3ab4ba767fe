"""One fit and forecast by another library, run by a Python that has it: `python peers.py MODEL FOLDER`.

Reads from the folder `train.parquet` and `contexts-*.parquet` (`unique_id, ds, y`, integer times) and `job.json`,
writes `forecast.parquet` (`unique_id, ds`, and a column for each quantile, named by its level, or `0.5` alone) and
`done.json`. Does not import armlp.

The settings are those that the libraries document, and the same for all data sets:

* statsforecast 2: the defaults of AutoETS, AutoTheta and AutoARIMA, with the season; a fit for each origin.
* neuralforecast 3: the defaults (1,000 steps of 1,024 windows, learning rate 1e-3, widths of the classes), a context of
  three horizons (its guides take two to five), windows standardised, short series padded; the multi-quantile loss, for
  DeepAR Student's t. On ETTh1 the default loss, MAE, which is also the score, with the four months held out.
* GluonTS 0.17: the defaults (100 epochs of 50 batches of 32; context of one horizon, for SimpleFeedForward of ten;
  Student's t), its lags and time features from the frequency.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LEVELS = (0.025, *(tenth / 10 for tenth in range(1, 10)), 0.975)
QUIET = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "accelerator": "cpu"}
TOO_LONG = 3  # exit status where a sample shows that the limit would be exceeded
Answer = tuple[list[pd.DataFrame], float, float]  # forecasts, and seconds to fit and to forecast


class TooLongError(Exception):
    """Raised where the limit would be exceeded."""


def main() -> None:
    """Fit and forecast as job.json says."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    name, folder = sys.argv[1], Path(sys.argv[2])
    job = json.loads((folder / "job.json").read_text())
    train = pd.read_parquet(folder / "train.parquet")
    contexts = [pd.read_parquet(path) for path in sorted(folder.glob("contexts-*.parquet"))]
    library, model = name.split("-")
    try:
        forecasts, fitted, done = LIBRARIES[library](model, job, train, contexts)
    except TooLongError:
        sys.exit(TOO_LONG)
    pd.concat(forecasts).to_parquet(folder / "forecast.parquet", index=False)
    (folder / "done.json").write_text(json.dumps({"fit_s": fitted, "predict_s": done}))


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a function and its seconds of the processor."""
    begin = time.process_time()
    return run(), time.process_time() - begin


def table_of(contexts: pd.DataFrame, quantiles: np.ndarray) -> pd.DataFrame:
    """Return the forecast `[N, H, Q]` of contexts, in the order of their ids, as a table."""
    last = contexts.groupby("unique_id")["ds"].max()
    horizon = quantiles.shape[1]
    columns = {str(level): quantiles[:, :, index].ravel() for index, level in enumerate(LEVELS)}
    steps = np.add.outer(last.to_numpy(), np.arange(1, horizon + 1)).ravel()
    return pd.DataFrame({"unique_id": np.repeat(last.index, horizon), "ds": steps, **columns})


def statsforecast(model: str, job: dict[str, Any], _: pd.DataFrame, contexts: list[pd.DataFrame]) -> Answer:
    """Forecast by models of statsforecast, one series after the other on one core."""
    from statsforecast import StatsForecast, models

    def run(table: pd.DataFrame) -> pd.DataFrame:
        forecaster = StatsForecast([getattr(models, model)(season_length=job["season_length"])], freq=1)
        return forecaster.forecast(h=job["horizon"], df=table, level=[20, 40, 60, 80, 95])

    table = pd.concat(contexts)
    ids = table["unique_id"].unique()
    run(table[table["unique_id"] == ids[0]])  # compile
    sample = ids[:: max(1, len(ids) // 10)][:10]
    if len(ids) > len(sample):
        _, seconds = timed(lambda: run(table[table["unique_id"].isin(sample)]))
        if seconds * len(ids) / len(sample) > 1.5 * job["limit"]:
            raise TooLongError
    found, seconds = timed(lambda: run(table))
    sides = {f"{0.5 - level / 200:g}": f"{model}-lo-{level}" for level in (20, 40, 60, 80, 95)}
    sides |= {f"{0.5 + level / 200:g}": f"{model}-hi-{level}" for level in (20, 40, 60, 80, 95)} | {"0.5": model}
    columns = {str(level): found[sides[f"{level:g}"]] for level in LEVELS}
    return [found[["unique_id", "ds"]].assign(**columns)], seconds, 0.0


def neuralforecast(model: str, job: dict[str, Any], train: pd.DataFrame, contexts: list[pd.DataFrame]) -> Answer:
    """Forecast by models of neuralforecast."""
    import torch
    from neuralforecast import NeuralForecast, models
    from neuralforecast.losses.pytorch import MAE, DistributionLoss, MQLoss

    torch.set_num_threads(1)
    quantiles = list(LEVELS)
    loss: Any = DistributionLoss("StudentT", quantiles=quantiles) if model == "DeepAR" else MQLoss(quantiles=quantiles)
    loss = MAE() if job["point"] else loss
    options: dict[str, Any] = {"h": job["horizon"], "input_size": 3 * job["horizon"], "loss": loss}
    options |= {"scaler_type": "standard", "start_padding_enabled": True, "random_seed": job["seed"]}

    def fit(**more: Any) -> Any:
        forecaster = NeuralForecast([getattr(models, model)(**options, **more, **QUIET)], freq=1)
        forecaster.fit(train, val_size=job["held_out"])
        return forecaster

    with tempfile.TemporaryDirectory() as folder:
        fit(max_steps=2, default_root_dir=folder)  # warm up
        _, seconds = timed(lambda: fit(max_steps=10, default_root_dir=folder))
        if seconds * 100 > 1.5 * job["limit"]:
            raise TooLongError
        forecaster, fitted = timed(lambda: fit(default_root_dir=folder))
        found, done = timed(lambda: [forecaster.predict(df=part) for part in contexts])
    levels = {f"-lo-{100 - 200 * level:.1f}": level for level in LEVELS if level < 0.5} | {"-median": 0.5}
    levels |= {f"-hi-{200 * level - 100:.1f}": level for level in LEVELS if level > 0.5}
    levels = {"": 0.5} if job["point"] else levels
    names = {model + suffix: str(level) for suffix, level in levels.items()}
    return [part[["unique_id", "ds", *names]].rename(columns=names) for part in found], fitted, done


def gluonts(model: str, job: dict[str, Any], train: pd.DataFrame, contexts: list[pd.DataFrame]) -> Answer:
    """Forecast by models of GluonTS; every series starts in 1950, because the times are not known."""
    import torch
    from gluonts.dataset.common import ListDataset
    from lightning.pytorch import seed_everything

    torch.set_num_threads(1)
    seed_everything(job["seed"], verbose=False)
    if model == "DeepAR":
        from gluonts.torch.model.deepar import DeepAREstimator as Estimator

        more = {"freq": job["freq"]}
    else:
        from gluonts.torch.model.simple_feedforward import SimpleFeedForwardEstimator as Estimator

        more = {}

    def series(table: pd.DataFrame) -> Any:
        start = pd.Period("1950-01-01", freq=job["freq"])
        rows = [
            {"start": start + int(part["ds"].iloc[0]), "target": part["y"].to_numpy(), "item_id": name}
            for name, part in table.groupby("unique_id")
        ]
        return ListDataset(rows, job["freq"])

    with tempfile.TemporaryDirectory() as folder:
        limits = {"max_epochs": 100, "default_root_dir": folder} | QUIET
        estimator = Estimator(prediction_length=job["horizon"], trainer_kwargs=limits, **more)
        predictor, fitted = timed(lambda: estimator.train(series(train)))
        table = pd.concat(contexts)
        found, done = timed(lambda: list(predictor.predict(series(table))))
    quantiles = np.stack([[each.quantile(level) for level in LEVELS] for each in found]).transpose(0, 2, 1)
    return [table_of(table, quantiles)], fitted, done


LIBRARIES: dict[str, Callable[..., Answer]] = {
    "statsforecast": statsforecast,
    "neuralforecast": neuralforecast,
    "gluonts": gluonts,
}


if __name__ == "__main__":
    main()
