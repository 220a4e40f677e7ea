"""What a file of the output holds: the scores of a bucket's tracks, and in its footer a summary of them."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.catalogue.manifest import ID, PLATFORM
from model.catalogue.tracks import Outcome, Summary
from model.inference.analysis import mean_embedding
from model.inference.scorer import ModelCard
from model.training.tables import DataError

#: The entry of a file's footer that holds the `Summary` of its tracks.
SUMMARY_KEY = b"apex_summary"
#: The entry that says which model the scores come from, and how it was run.
MODEL_KEY = b"apex_model"
CODE, EMBEDDING = "code", "embedding"
_BEFORE = [(ID, pa.string()), (PLATFORM, pa.string()), ("sha256", pa.string())]
_BEFORE += [("duration_s", pa.float64()), ("segments", pa.int32()), ("warnings", pa.list_(pa.string()))]
_AFTER = [(CODE, pa.string()), ("detail", pa.string())]


class Rows(Protocol):
    """What is written of outcomes."""

    @property
    def needs_vectors(self) -> bool:
        """Whether the outcomes must have the embeddings of segments."""

    def table(self, outcomes: Sequence[Outcome], card: ModelCard) -> pa.Table:
        """The rows of a bucket's outcomes."""

    def finished(self, table: pa.Table) -> Sequence[str]:
        """Of each row in such a table, the id of its track; empty for one that has failed."""


@dataclass(frozen=True)
class ScoreRows:
    """A row a track: its scores or the code of its failure, and with `embeddings` the mean of its segments'."""

    embeddings: bool = False

    @property
    def needs_vectors(self) -> bool:
        return self.embeddings

    def table(self, outcomes: Sequence[Outcome], card: ModelCard) -> pa.Table:
        names = tuple(card.scores)
        fields = [*_BEFORE, *((name, pa.float64()) for name in names), *_AFTER]
        fields += [(EMBEDDING, pa.list_(pa.float32()))] if self.embeddings else []
        identity = json.dumps(card.identity(), sort_keys=True).encode()
        rows = [self._row(outcome, names) for outcome in outcomes]
        return pa.Table.from_pylist(rows, pa.schema(fields, metadata={MODEL_KEY: identity}))

    def finished(self, table: pa.Table) -> Sequence[str]:
        rows = zip(table.column(ID).to_pylist(), table.column(CODE).to_pylist(), strict=True)
        return ["" if code else key for key, code in rows]

    def _row(self, outcome: Outcome, names: Sequence[str]) -> dict[str, Any]:
        return {
            ID: outcome.track.id,
            PLATFORM: outcome.track.about.get(PLATFORM),
            "sha256": outcome.sha256,
            "duration_s": outcome.facts.duration_s if outcome.facts else None,
            "segments": outcome.n_segments,
            "warnings": [warning.code for warning in outcome.warnings],
            **{name: outcome.scores.get(name) for name in names},
            CODE: outcome.code,
            "detail": outcome.detail,
            EMBEDDING: None if outcome.vectors is None else mean_embedding(outcome.vectors).astype(np.float32),
        }


def encoded(table: pa.Table, summary: Summary) -> bytes:
    """A table as the bytes of a Parquet file with a summary: the same for the same rows."""
    metadata = {**(table.schema.metadata or {}), SUMMARY_KEY: json.dumps(asdict(summary), sort_keys=True).encode()}
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), file, compression="zstd")
    return file.getvalue()


def summary_of(file: BinaryIO, name: str) -> Summary:
    """The summary in the footer of such a file. Raises DataError where it is none."""
    try:
        found: Mapping[bytes, bytes] = pq.read_metadata(file).metadata or {}
        return Summary(**json.loads(found[SUMMARY_KEY]))
    except (KeyError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be read as Parquet that an earlier run wrote: {text}") from error


def total(outcomes: Sequence[Outcome]) -> Summary:
    return reduce(add, map(Summary.of, outcomes), Summary())
