"""`apex demo`: the whole service once, over HTTP, with a piece of music made on the spot."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.commands.settings import load_settings
from app.cli.commands.up import CannotStart, service
from app.cli.commands.weights import MERT_LICENCE, ensure_weights
from app.core.settings import WorkerSettings
from model.audio import synthesizer
from model.domain import ApexError

TRACK_S = 40.0
READY_TIMEOUT_S = 120.0
SCORE_TIMEOUT_S = 300.0
POLL_S = 0.25

console = Console()


def run() -> None:
    """Start, score, show, stop. Raises `ApexError` when any of it fails."""
    directory = ensure_weights(load_settings(WorkerSettings).weights_dir)
    with tempfile.TemporaryDirectory(prefix="apex-demo-") as data_dir:
        os.environ |= {
            "APEX_WEIGHTS_DIR": str(directory),
            "APEX_DATA_DIR": data_dir,
            "APEX_PORT": "0",
            "APEX_LOG_LEVEL": "WARNING",
        }
        track = Path(data_dir) / "demo.wav"
        synthesizer.write_wav(track, synthesizer.synthesise(duration_s=TRACK_S), synthesizer.SAMPLE_RATE_HZ)
        with running_service() as client:
            job = score(client, track)
    show(job)


@contextmanager
def running_service() -> Iterator[httpx.Client]:
    """A client of a service that runs in the background until the block ends."""
    with service() as (supervisor, url):
        thread = threading.Thread(target=supervisor.run, name="supervisor")
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=30) as client:
                with console.status(f"starting Redis, the API at {url} and one worker"):
                    wait_until_ready(client)
                yield client
        finally:
            supervisor.stop()
            thread.join()


def wait_until_ready(client: httpx.Client) -> None:
    """Wait for the API to answer and for a worker to have loaded its model."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if client.get("/model").json().get("loaded"):
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    raise CannotStart(f"the service was not ready after {READY_TIMEOUT_S:.0f} s; its messages are above")


def score(client: httpx.Client, track: Path) -> dict[str, Any]:
    """Upload a track and wait for the end of its job, showing how far it is."""
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[stage]}"), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("scoring", total=None, stage="uploading")
        with track.open("rb") as file:
            answer = client.post("/score", files={"file": (track.name, file)})
        if answer.status_code != httpx.codes.ACCEPTED:
            raise ApexError(f"the upload was refused: {answer.text}")
        return _follow(client, answer.headers["Location"], progress, bar)


def _follow(client: httpx.Client, location: str, progress: Progress, bar: TaskID) -> dict[str, Any]:
    deadline = time.monotonic() + SCORE_TIMEOUT_S
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(location).json()
        state = job["progress"]
        done, total = state["segments_done"], state["segments_total"]
        progress.update(bar, completed=done, total=total, stage=f"{state['stage']} {done}/{total or '?'} segments")
        if job["done"]:
            return job
        time.sleep(POLL_S)
    raise ApexError(f"the job was not done after {SCORE_TIMEOUT_S:.0f} s")


def show(job: dict[str, Any]) -> None:
    """The scores as a table, the job as JSON, and whether to believe them."""
    if job["status"] != "succeeded":
        raise ApexError(f"the job ended as {job['status']}: {job['error']}")
    result, model = job["result"], job["model"]
    table = Table(title=f"{model['name']} {model['version']}")
    for heading in ("score", "value", "range"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, value in result["scores"].items():
        low, high = result["ranges"][name]
        table.add_row(name, f"{value:.4f}", f"{low:g} to {high:g}")
    console.print_json(json.dumps(job))
    console.print(table)
    console.print(
        MERT_LICENCE if model["trained"] else _untrained(), style="yellow" if model["trained"] else "bold red"
    )


def _untrained() -> str:
    return (
        'UNTRAINED STAND-IN WEIGHTS ("trained": false): the model hub could not be reached, so these scores were given '
        "by a network that has learnt nothing. They show that the service works, and nothing about the music. "
        "Get the published weights with 'apex weights pull'."
    )
