"""The commands of the framework behind the scores, in the order in which they are used: labels, extract, train, …

They belong to `apex`, which adds them to its own. Their packages are in the extra `train`, and are imported when one of
the commands runs.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from model.domain import ApexError

app = typer.Typer()

INTERRUPTED = 130  # what a shell expects after Ctrl-C

OutFlag = Annotated[Path, typer.Option("--out", help="Folder for the results; made if it is not there.")]
DeviceFlag = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto: CUDA where there is any.")]
WeightsFlag = Annotated[Path, typer.Option("--weights", envvar="APEX_WEIGHTS_DIR", help="Weights directory.")]
DataArgument = Annotated[Path, typer.Argument(help="Folder with train/ and val/, as 'apex extract' writes it.")]
EpochsFlag = Annotated[int, typer.Option(min=1, help="Longest training; also the length of the cosine schedule.")]
BatchFlag = Annotated[int, typer.Option(min=2, help="Rows in a batch.")]
RateFlag = Annotated[float, typer.Option(help="Learning rate of AdamW.")]
PatienceFlag = Annotated[int, typer.Option(min=1, help="Epochs without a lower validation loss before it stops.")]
SeedFlag = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
ResamplesFlag = Annotated[int, typer.Option(min=10, help="Bootstrap resamples behind each 95 % interval.")]


@app.command()
def labels(
    counts: Annotated[Path, typer.Argument(help="Table with id, platform, streams, likes: .csv, .jsonl or .parquet.")],
    out: OutFlag = Path("labels"),
    aesthetics: Annotated[
        Path | None,
        typer.Option(help="Table with id and songeval_scores, or the five scores, if the counts have none of them."),
    ] = None,
    exponent: Annotated[
        float, typer.Option(help="score = 100 · percentile^exponent. The paper's is not public; 1 changes nothing.")
    ] = 1.0,
    pool: Annotated[bool, typer.Option("--pool", help="Rank all platforms together, not each by itself.")] = False,
    group: Annotated[
        str | None, typer.Option(help="Column, such as artist, whose songs all go into the same split.")
    ] = None,
    fractions: Annotated[tuple[float, float, float], typer.Option(help="Shares of train, val and test.")] = (
        0.8,
        0.1,
        0.1,
    ),
    seed: SeedFlag = 42,
) -> None:
    """1. From raw counts to scores of 0 to 100, split into train, val and test."""
    with _running("labels") as command:
        command.run(counts, out, aesthetics, exponent=exponent, pool=pool, group=group, fractions=fractions, seed=seed)


@app.command()
def extract(
    manifest: Annotated[Path, typer.Argument(help="What 'apex labels' wrote, or one table of id and scores.")],
    audio: Annotated[str, typer.Option(help="Folder or URL that holds each song as a file named id.*.")],
    weights: WeightsFlag = Path("weights"),
    out: OutFlag = Path("emb"),
    device: DeviceFlag = "auto",
    actors: Annotated[int, typer.Option(min=1, help="Networks in memory; one a GPU.")] = 1,
    batch_segments: Annotated[
        int, typer.Option(min=0, help="Segments of 30 s in one pass; 0 for what suits the device.")
    ] = 0,
    shard_songs: Annotated[int, typer.Option(min=1, help="Songs in one Parquet file; fewer where it is slow.")] = 256,
    retry_failures: Annotated[bool, typer.Option("--retry-failures", help="Try those again that have failed.")] = False,
) -> None:
    """2. Embed every song, in parallel. Start it again after a crash: it goes on where it was.

    What cannot be embedded is in OUT/failures.parquet, with the reason. Set RAY_ADDRESS to use a Ray cluster instead of
    this machine.
    """
    with _running("extract") as command:
        command.run(
            manifest,
            audio,
            out,
            weights=weights,
            device=device,
            actors=actors,
            batch_segments=batch_segments,
            shard_songs=shard_songs,
            retry_failures=retry_failures,
        )


@app.command()
def train(
    data: DataArgument,
    out: OutFlag = Path("run"),
    mode: Annotated[
        str, typer.Option(help="A row is a song, the mean of its segments, or a segment of 30 s.")
    ] = "song",
    task: Annotated[str, typer.Option(help="full (seven scores) or popularity (two).")] = "full",
    loss: Annotated[
        str, typer.Option(help="uncertainty (learns the weights), equal, or weighted (popularity 5, others 1).")
    ] = "uncertainty",
    shared: Annotated[int, typer.Option(help="Shared layers: 2 or 3.")] = 2,
    epochs: EpochsFlag = 50,
    batch_size: BatchFlag = 512,
    learning_rate: RateFlag = 1e-4,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 1e-4,
    patience: PatienceFlag = 20,
    seed: SeedFlag = 42,
    device: DeviceFlag = "auto",
) -> None:
    """3. Train a head on embeddings. Start it again after a crash: it goes on where it was."""
    with _running("train") as command:
        command.run(
            data,
            out,
            device=device,
            mode=mode,
            task=task,
            loss=loss,
            shared=shared,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            patience=patience,
            seed=seed,
        )


@app.command()
def sweep(
    data: DataArgument,
    out: OutFlag = Path("sweep"),
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be given twice. Default both.")] = None,
    epochs: EpochsFlag = 50,
    batch_size: BatchFlag = 512,
    learning_rate: RateFlag = 1e-4,
    patience: PatienceFlag = 20,
    seed: SeedFlag = 42,
    device: DeviceFlag = "auto",
) -> None:
    """Train all 24 conditions of the paper, one a core, and compare them in one table."""
    with _running("sweep") as command:
        command.run(
            data,
            out,
            task or ["popularity", "full"],
            device=device,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            seed=seed,
        )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a head: apex.safetensors or best_model.pt.")],
    data: Annotated[Path, typer.Argument(help="Embeddings that it was not trained on, such as emb/test.")],
    out: OutFlag = Path("eval"),
    train_data: Annotated[
        Path | None, typer.Option("--train", help="Embeddings for the baselines. Default the train/ beside DATA.")
    ] = None,
    resamples: ResamplesFlag = 1_000,
    device: DeviceFlag = "auto",
) -> None:
    """4. Say how good a head is, beside a mean and a ridge regression, with 95 % intervals."""
    with _running("evaluate") as command:
        command.run(run, data, out, train=train_data, resamples=resamples, device=device)


@app.command()
def arena(
    battles: Annotated[Path, typer.Argument(help="Music Arena's record of battles: .parquet, .jsonl or .csv.")],
    out: OutFlag = Path("arena"),
    scores: Annotated[
        Path | None,
        typer.Option(help="Scores of the clips, as 'apex score --json' prints them, if the battles have none."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of the clips, to score them now. Default: audio/ beside the battles, if need be."),
    ] = None,
    weights: WeightsFlag = Path("weights"),
    head: Annotated[Path | None, typer.Option(help="Another head than that of the weights.")] = None,
    min_votes: Annotated[int, typer.Option(min=1, help="Fewer, and a system is not on the leaderboard.")] = 30,
    resamples: ResamplesFlag = 1_000,
    device: DeviceFlag = "auto",
) -> None:
    """5. Do the scores say which of two clips listeners prefer? Music Arena, with and without the aesthetic scores.

    The battles have columns battle_uuid, prompt, is_instrumental, system_a, system_b, preference (A, B, TIE or
    BOTH_BAD), and either scores (score_streams_a, score_streams_b and so on) or clips to score (audio_a, audio_b).
    """
    with _running("arena") as command:
        command.run(
            battles,
            out,
            scores=scores,
            audio=audio,
            weights=weights,
            head=head,
            min_votes=min_votes,
            resamples=resamples,
            device=device,
        )


@contextmanager
def _running(name: str) -> Iterator[Any]:
    """A module of `app.cli.commands`. Ctrl-C within the block, or a disk that will not, ends it with a sentence."""
    # Threads that spin while they wait slow training tenfold where anything else runs; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        yield _imported(name)
    except KeyboardInterrupt:
        typer.echo("apex: interrupted; what was done is kept, and the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        about = [str(part) for part in (error.filename, error.strerror) if part]
        raise ApexError(": ".join(about) or str(error)) from error


def _imported(name: str) -> Any:
    try:
        return import_module(f"app.cli.commands.{name}")
    except ModuleNotFoundError as error:
        raise ApexError(
            f"'apex {name}' needs the package {error.name}: pip install -c constraints.txt -e '.[worker,train]'"
        ) from error
