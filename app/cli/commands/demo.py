"""`apex demo`: the whole service once, over HTTP, with a synthesised piece of music."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.flags import ServiceDeviceFlag, WeightsDirFlag, export
from app.cli.terminal import literal
from app.cli.weights_dir import MERT_LICENCE, ensure_weights
from model.domain import ApexError
from model.temporary import temporary_directory

if TYPE_CHECKING:
    import httpx

TRACK_S = 40.0
READY_TIMEOUT_S = 120.0
SCORE_TIMEOUT_S = 300.0
WEBHOOK_TIMEOUT_S = 30.0
POLL_S = 0.25

console = Console()


class DemoStorage(StrEnum):
    """Where the demonstration keeps its audio: in a folder, or on an S3 server that it starts."""

    FOLDER = "folder"
    S3 = "s3"


StorageOption = Annotated[DemoStorage, typer.Option(help="Where audio is kept; s3 needs the extra embedded-s3.")]


def demo(
    weights: WeightsDirFlag = None, device: ServiceDeviceFlag = None, storage: StorageOption = DemoStorage.FOLDER
) -> None:
    """Start everything, score a piece of music made on the spot, show the scores and the webhook, stop everything."""
    export(weights_dir=weights, device=device)
    from app.cli.webhook_receiver import webhook_receiver
    from app.core.settings import WorkerSettings, load_settings
    from model.audio import synthesizer

    directory = ensure_weights(load_settings(WorkerSettings).weights_dir)
    with temporary_directory("demo") as data_dir:
        os.environ |= {
            "APEX_WEIGHTS_DIR": str(directory),
            "APEX_DATA_DIR": str(data_dir),
            "APEX_PORT": "0",
            "APEX_LOG_LEVEL": "WARNING",
            # The receiver of the webhook is on this machine.
            "APEX_WEBHOOK_HOSTS": "127.0.0.1",
            "APEX_EGRESS_NETWORKS": "127.0.0.0/8",
        }
        track = data_dir / "demo.wav"
        synthesizer.write_wav(track, synthesizer.synthesise(duration_s=TRACK_S), synthesizer.SAMPLE_RATE_HZ)
        with storing_in(storage, data_dir), webhook_receiver() as receiver, running_service() as client:
            secret = webhook_secret()
            job = score(client, track, webhook_url=receiver.url)
            event = receiver.next_event(secret, timeout_s=WEBHOOK_TIMEOUT_S)
    show(job)
    console.print(literal(f"webhook {event['type']} verified: {event['id']}", "green"))


@contextmanager
def storing_in(storage: DemoStorage, data_dir: Path) -> Iterator[None]:
    """Keep audio there until the block ends."""
    if storage is DemoStorage.FOLDER:
        yield
        return
    from app.cli.serving.embedded_s3 import BUCKET, embedded_s3

    with ExitStack() as stopping:
        with console.status("starting an S3 server"):
            environment = stopping.enter_context(embedded_s3(data_dir / "s3"))
        os.environ |= environment | {"APEX_STORAGE_URL": f"s3://{BUCKET}/demo"}
        console.print(literal(f"audio goes to s3://{BUCKET}/demo at {environment['AWS_ENDPOINT_URL']}", "dim"))
        yield


@contextmanager
def running_service() -> Iterator["httpx.Client"]:
    """A client of a service that runs in the background until the block ends."""
    import httpx

    from app.cli.serving.service import service

    with service() as (supervisor, url):
        thread = threading.Thread(target=supervisor.run, name="supervisor")
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=30) as client:
                with console.status(literal(f"starting Redis, the API at {url} and one worker")):
                    wait_until_ready(client)
                yield client
        finally:
            supervisor.stop()
            thread.join()


def wait_until_ready(client: "httpx.Client") -> None:
    """Wait for the API to answer and for a worker to have loaded its model."""
    import httpx

    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if client.get("/model").json().get("loaded"):
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    raise ApexError(f"the service was not ready after {READY_TIMEOUT_S:.0f} s; its messages are above")


def webhook_secret() -> str:
    """What signs the webhooks of the running service, made now."""
    from app.cli.secret_store import secret_store
    from app.core.callers import ANONYMOUS_TENANT

    with secret_store() as secrets:
        return secrets.create(ANONYMOUS_TENANT).key


def score(client: "httpx.Client", track: Path, *, webhook_url: str) -> dict[str, Any]:
    """Upload a track and wait for the end of its job, showing how far it is."""
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[stage]}"), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("scoring", total=None, stage="uploading")
        with track.open("rb") as file:
            response = client.post("/score", files={"file": (track.name, file)}, data={"webhook_url": webhook_url})
        if response.status_code != HTTPStatus.ACCEPTED:
            raise ApexError(f"the upload was refused: {response.text}")
        return _follow(client, response.headers["Location"], progress, bar)


def _follow(client: "httpx.Client", location: str, progress: Progress, bar: TaskID) -> dict[str, Any]:
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
    table = Table(title=literal(f"{model['name']} {model['version']}"))
    for heading in ("score", "value", "range"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, value in result["scores"].items():
        low, high = result["ranges"][name]
        table.add_row(literal(name), f"{value:.4f}", f"{low:g} to {high:g}")
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
