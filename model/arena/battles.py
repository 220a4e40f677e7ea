"""Music Arena's battles: two clips made from one prompt by two systems, and which one a listener preferred."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats
from model.domain import SCORE_RANGES, TASK_SCORES
from model.training.tables import DataError, Table, composed, read_table

PREFERENCES = ("A", "B", "TIE", "BOTH_BAD")
SIDES = ("a", "b")
#: Columns that may name the clip in a table of scores; `file` is what `apex score --json` writes.
CLIP_COLUMNS = ("file", "audio", "id")
RATIO_FLOOR = 1e-9


@dataclass(frozen=True)
class Battles:
    """The columns of a record that the experiment uses, one entry a battle."""

    systems: tuple[list[str], list[str]]
    prompts: list[str]
    is_instrumental: NDArray[np.bool_]
    preferences: NDArray[np.str_]
    scores: Mapping[str, tuple[Floats, Floats]]  # by score, of clip a and of clip b

    def __len__(self) -> int:
        return len(self.prompts)

    def where(self, rows: NDArray[np.bool_]) -> "Battles":
        """Some of the battles."""
        kept = np.flatnonzero(rows)
        first, second = ([side[row] for row in kept] for side in self.systems)
        scores = {name: (a[kept], b[kept]) for name, (a, b) in self.scores.items()}
        prompts = [self.prompts[row] for row in kept]
        return Battles((first, second), prompts, self.is_instrumental[kept], self.preferences[kept], scores)

    @property
    def decided(self) -> "Battles":
        """The battles with a winner: not TIE, not BOTH_BAD."""
        return self.where(np.isin(self.preferences, PREFERENCES[:2]))

    @property
    def prefers_a(self) -> NDArray[np.bool_]:
        """Whether clip a won."""
        return np.asarray(self.preferences == "A", np.bool_)

    @property
    def pairs(self) -> list[str]:
        """The two systems, in the same order whatever their sides."""
        return [" vs ".join(sorted(pair)) for pair in zip(*self.systems, strict=True)]


def read_battles(path: Path, scores: Path | None = None) -> Battles:
    """The battles in a table, with the scores of both clips.

    path   : battle_uuid, prompt, is_instrumental, system_a, system_b, preference; and audio_a, audio_b with `scores`
    scores : a table with a row a clip (`apex score --json` makes one); without it the battles have their own columns
             score_streams_a, score_streams_b and so on, or scores_a and scores_b as structures
    Raises DataError naming file, column and row.
    """
    table = read_table(path)
    table.keys("battle_uuid")
    found = _looked_up(table, read_table(scores)) if scores else scores_within(table)
    if not found:
        raise DataError(f"{path}: has no column 'score_streams_a': give --scores, or --audio to score the clips")
    return Battles(
        systems=(table.texts("system_a"), table.texts("system_b")),
        prompts=table.texts("prompt"),
        is_instrumental=table.flags("is_instrumental"),
        preferences=np.array(table.choices("preference", PREFERENCES)),
        scores=found,
    )


def has_scores(table: Table) -> bool:
    """Whether a table of battles has scores itself."""
    return "scores_a" in table or any(f"{name}_a" in table for name in SCORE_RANGES)


def scores_within(table: Table) -> dict[str, tuple[Floats, Floats]]:
    """The scores that a table of battles has itself; empty when it has none."""
    if "scores_a" in table:
        return _side_by_side(*(_unnested(table, f"scores_{side}") for side in SIDES))
    names = [name for name in SCORE_RANGES if f"{name}_a" in table]
    sides = ({name: table.numbers(f"{name}_{side}", *SCORE_RANGES[name]) for name in names} for side in SIDES)
    return _side_by_side(*sides)


def features(battles: Battles, *, aesthetics: bool) -> Floats:
    """The notebook's features: of each score the difference, the ratio, and the difference where instrumental.

    returns (n_battles, 3 * n_scores + 1); the last column is is_instrumental
    """
    instrumental = battles.is_instrumental.astype(np.float64)
    columns = []
    for name in used(battles, aesthetics=aesthetics):
        a, b = battles.scores[name]
        columns += [a - b, a / (b + RATIO_FLOOR), (a - b) * instrumental]
    return np.stack([*columns, instrumental], axis=1)


def used(battles: Battles, *, aesthetics: bool) -> list[str]:
    """The names of the scores behind the features."""
    return [name for name in battles.scores if aesthetics or name in TASK_SCORES["popularity"]]


def _looked_up(battles: Table, scores: Table) -> dict[str, tuple[Floats, Floats]]:
    """The scores of the clips of each battle, found by path, by file name, or by name without suffix."""
    column = next((name for name in CLIP_COLUMNS if name in scores), CLIP_COLUMNS[0])
    row_of: dict[str, int] = {}
    for row, clip in enumerate(scores.keys(column)):
        for name in _names_of(clip):
            row_of.setdefault(name, row)
    by_row = _unnested(scores, "scores") if "scores" in scores else _columns(scores)
    rows = {side: _rows(battles, f"audio_{side}", row_of, scores.path) for side in SIDES}
    return {name: (values[rows["a"]], values[rows["b"]]) for name, values in by_row.items()}


def _names_of(clip: str) -> tuple[str, str, str]:
    path = Path(composed(clip))
    return composed(clip), path.name, path.stem


def _rows(battles: Table, column: str, row_of: Mapping[str, int], path: Path) -> list[int]:
    rows = []
    for index, clip in enumerate(battles.texts(column)):
        found = next((row_of[name] for name in _names_of(clip) if name in row_of), None)
        if found is None:
            battles.fail(column, index, f"{path} has no scores of {clip!r}")
        rows.append(found)
    return rows


def _unnested(table: Table, column: str) -> dict[str, Floats]:
    records = table.records(column)
    names = [name for name in SCORE_RANGES if name in records[0]]
    unnested = Table(table.path, {name: [record.get(name) for record in records] for name in names})
    return _columns(unnested)


def _columns(table: Table) -> dict[str, Floats]:
    return {name: table.numbers(name, *bounds) for name, bounds in SCORE_RANGES.items() if name in table}


def _side_by_side(a: Mapping[str, Floats], b: Mapping[str, Floats]) -> dict[str, tuple[Floats, Floats]]:
    return {name: (a[name], b[name]) for name in a if name in b}


def clips_in(table: Table, folder: Path) -> list[str]:
    """Every clip that the battles name, once. Raises DataError for one that is not a file within the folder."""
    clips: dict[str, None] = {}
    for column in (f"audio_{side}" for side in SIDES):
        for index, clip in enumerate(table.texts(column)):
            if os.path.isabs(clip) or Path(os.path.normpath(clip)).parts[0] == os.pardir:
                table.fail(column, index, f"{clip!r} is not within {folder}")
            if clip not in clips and not clip_file(folder, clip).is_file():
                table.fail(column, index, f"there is no file {folder / clip}")
            clips[clip] = None
    return list(clips)


def clip_file(folder: Path, clip: str) -> Path:
    """The file of a clip, whose name may be decomposed in the folder and composed in the table, or the reverse."""
    paths = [folder / name for name in (clip, composed(clip), normalize("NFD", clip))]
    return next((path for path in paths if path.is_file()), paths[0])
