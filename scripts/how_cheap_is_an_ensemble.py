"""How cheap is an ensemble? Time of a training step of E members in one batched network, beside that of one member.

    python scripts/how_cheap_is_an_ensemble.py [--members 5] [--steps 60] [--repeats 5] [--write]

Whole `Trainer.fit` runs on the catalog's `sine`, timed from the first step to the last. Runs take turns, and the table
holds medians. OMP_NUM_THREADS=1 limits it to one core.
"""

from __future__ import annotations

import argparse
import statistics
import time

from lightning.pytorch import Callback, LightningModule, Trainer
from report import add_write_option, table, write_results

import armlp
from armlp.training.loop.trainer import TRAINER, quiet

SIZES = {
    "[64]": {"hidden_sizes": [64], "residual_blocks": 0},
    "[128] + 1 block": {"hidden_sizes": [128], "residual_blocks": 1},
    "[256] + 2 blocks": {"hidden_sizes": [256], "residual_blocks": 2},
}


class Clock(Callback):
    """Seconds between the first training step and the last."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.begin


def main() -> None:
    """Measure every size of the network and of the batch."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for option, default in {"members": 5, "steps": 60, "repeats": 5}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    add_write_option(parser)
    options = parser.parse_args()
    quiet()
    rows = []
    for batch_size in (64, 256):
        for name, size in SIZES.items():
            times: dict[int, list[float]] = {1: [], options.members: []}
            for _ in range(options.repeats):
                for members, seconds in times.items():
                    seconds.append(step_time(members, batch_size, options.steps, size))
            one, many = (1000 * statistics.median(seconds) for seconds in times.values())
            share = f"{100 * many / (options.members * one):.0f}%"
            rows.append((name, str(batch_size), f"{one:.2f}", f"{many:.2f}", share))
    headings = ("network", "batch", "1 member", f"{options.members} members", f"share of {options.members} trainings")
    write_results(__file__, __doc__, [table("Milliseconds a training step", headings, rows)], options.write)


def step_time(members: int, batch_size: int, steps: int, size: dict[str, object]) -> float:
    """Return the seconds of a training step."""
    clock = Clock()
    trainer = Trainer(
        **TRAINER,
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[clock],
    )
    data = armlp.SeriesDataModule("sine", batch_size=batch_size)
    trainer.fit(armlp.ForecastModule(context_length=72, patch_length=24, members=members, **size), datamodule=data)
    return clock.seconds / steps


if __name__ == "__main__":
    main()
