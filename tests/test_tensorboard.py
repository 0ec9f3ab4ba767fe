"""Tests that look at a run as people do: through TensorBoard's server, and through a browser."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from matplotlib.image import imread

from armlp.cli import main

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--window-size=1400,1000", "--remote-debugging-pipe",
)  # fmt: skip
RUN = "version_0"
TEXTS = {"data", "options", "settled", "versions", "model_card", "test"}
FORECASTS = {f"forecast_{rank}" for rank in ("best", "median", "worst")}
CHARTS = {
    f"{part}/{name}"
    for part in ("val_best", "test")
    for name in {"dependence", "leads", "pit", "reliability", "residuals"} | FORECASTS
}


@pytest.fixture(scope="module")
def server(trained: Any, drawing: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of TensorBoard, on this machine alone, over a run that was trained and tested."""
    logs = tmp_path_factory.mktemp("logs")
    run = logs / RUN
    shutil.copytree(trained.run, run)
    for file in run.glob("*.test"):
        file.unlink()  # of another test
    with drawing():
        main(["test", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"])
    command = [sys.executable, "-m", "tensorboard.main", "--host=127.0.0.1", "--port=0", "--logdir", str(logs)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)
            address = next(found.group() for found in said if found)
            deadline = time.monotonic() + 60
            while "test/mae" not in get(address, "scalars/tags").get(RUN, {}) and time.monotonic() < deadline:
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()


def get(address: str, route: str, **query: str) -> Any:
    """The answer of one of TensorBoard's plugins."""
    with urlopen(f"{address}/data/plugin/{route}?{urlencode(query)}", timeout=30) as answer:
        return json.loads(answer.read())


def test_every_scalar_is_served_with_its_values(server: str):
    (run,) = get(server, "scalars/tags")
    assert run == RUN
    tags = get(server, "scalars/tags")[RUN]
    assert {"train/nll", "train/gradient_norm", "val/skill", "val_best/lead_mae/armlp", "test/lead_mae/drift"} <= set(
        tags
    )
    for tag in tags:
        points = get(server, "scalars/scalars", run=RUN, tag=tag)
        assert points, tag
        steps = [step for _, step, _ in points]
        assert steps == sorted(set(steps)), tag
        assert all(isinstance(value, (int, float)) for _, _, value in points), tag  # others are the word NaN


def test_every_picture_is_served_and_is_none_of_one_colour(server: str, tmp_path: Path):
    assert set(get(server, "images/tags")[RUN]) == CHARTS
    for tag in CHARTS:
        for picture in get(server, "images/images", run=RUN, tag=tag, sample="0"):
            with urlopen(f"{server}/data/plugin/images/individualImage?{picture['query']}", timeout=30) as answer:
                (tmp_path / "picture.png").write_bytes(answer.read())
            pixels = imread(tmp_path / "picture.png")
            assert pixels.shape[1] > 600
            assert pixels[..., :3].std() > 0.05, tag


def test_every_text_is_served_as_a_table(server: str):
    assert {tag.removesuffix("/text_summary") for tag in get(server, "text/tags")[RUN]} == TEXTS
    for tag in TEXTS:
        (text,) = get(server, "text/text", run=RUN, tag=f"{tag}/text_summary")
        assert "<table>" in text["text"], tag


def test_every_chart_of_the_layout_has_lines(server: str):
    (category,) = get(server, "custom_scalars/layout")["category"]
    assert len(category["chart"]) == 4
    for chart in category["chart"]:
        for tag in chart["multiline"]["tag"]:
            found = get(server, "custom_scalars/scalars", run=RUN, tag=tag)
            assert found["regex_valid"]
            assert [len(points) > 1 for points in found["tag_to_events"].values()] == [True], tag


def test_the_run_is_one_row_of_hyperparameters_with_metrics(server: str):
    request = {"colParams": [], "startIndex": 0, "sliceSize": 9, "allowedStatuses": ["STATUS_SUCCESS"]}
    groups = get(server, "hparams/session_groups", request=json.dumps(request))["sessionGroups"]
    (group,) = groups
    assert group["hparams"]["horizon"] == 6
    metrics = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
    shown = {tag: get(server, "scalars/scalars", run=RUN, tag=tag)[0][2] for tag in ("val_best/mae", "val_best/skill")}
    for tag, value in shown.items():
        assert metrics[tag] == pytest.approx(value)


class Browser:
    """Chromium without a window, driven over a pipe."""

    def __init__(self, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        # The protocol is spoken on descriptors 3 and 4.
        shell = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        command = ["bash", "-c", shell, str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(command, pass_fds=(ours[0], theirs[1]), stderr=subprocess.DEVNULL)
        os.close(ours[0])
        os.close(theirs[1])
        self.write, self.read = ours[1], theirs[0]
        self.received, self.sent = b"", 0
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def __call__(self, method: str, session: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
        """Sends a command; its result comes back."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params, **(session or {})}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.received:
                assert select.select([self.read], [], [], 60)[0], f"{method} had no answer"
                part = os.read(self.read, 1 << 20)
                assert part, "the browser ended"
                self.received += part
            answer, _, self.received = self.received.partition(b"\0")
            message = json.loads(answer)
            if message.get("id") == self.sent:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self("Runtime.evaluate", self.session, expression=script, returnByValue=True)
        return answer["result"].get("value")

    def shown(self, address: str, words: list[str], pictures: int = 0) -> bool:
        """Whether a page comes to show all the words and so many pictures, within its shadow trees too."""
        self("Page.navigate", self.session, url="about:blank")
        self("Page.navigate", self.session, url=address)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            text, loaded = self.run(PAGE) or ("", 0)
            if all(word in text for word in words) and loaded >= pictures:
                return True
            time.sleep(0.3)
        return False

    def close(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(timeout=30)
        os.close(self.write)
        os.close(self.read)


# All text of a page, and how many pictures have been loaded.
PAGE = """(() => {
  let text = '', pictures = 0;
  const visit = (node) => {
    if (node.nodeType === Node.TEXT_NODE) text += node.textContent + ' ';
    if (node.nodeName === 'IMG' && node.naturalWidth > 500) pictures += 1;
    if (node.nodeName === 'IFRAME' && node.contentDocument) visit(node.contentDocument.documentElement);
    if (node.nodeName === 'STYLE' || node.nodeName === 'SCRIPT') return;
    if (node.shadowRoot) node.shadowRoot.childNodes.forEach(visit);
    node.childNodes.forEach(visit);
  };
  visit(document.documentElement);
  return [text, pictures];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize(
    ("tab", "words", "pictures"),
    [
        ("scalars", ["epoch", "train", "val_best"], 0),
        ("custom_scalars", ["Skill: above 0", "MAE by lead", "Coverage of the 80%", "Matches (2)"], 0),
        ("images", ["val_best/forecast_best", "val_best/pit"], 3),
        ("hparams", ["context_length", "quantile", RUN], 0),
        ("text", ["model_card", "An autoregressive MLP"], 0),
    ],
)
def test_a_browser_shows_the_tab(server: str, browser: Browser, tab: str, words: list[str], pictures: int):
    assert browser.shown(f"{server}/#{tab}", words, pictures)
