"""Labels are percentile ranks within the platform, and nobody's songs are in two splits."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import percentileofscore

from model.training.labels import AESTHETICS, LabelConfig, label, percentile_scores, report, write
from model.training.splits import SPLITS, assign
from model.training.tables import DataError


def write_counts(path: Path, n_songs: int = 60, *, aesthetics: bool = True) -> Path:
    rng = np.random.default_rng(3)
    header = ["id", "platform", "streams", "likes", "artist", *(AESTHETICS if aesthetics else ())]
    lines = [
        [f"s{i}", ("suno", "udio")[i % 2], rng.integers(30), rng.integers(5), f"artist{i // 3}"]
        + ([*np.round(rng.uniform(1, 5, 5), 2)] if aesthetics else [])
        for i in range(n_songs)
    ]
    path.write_text("\n".join(",".join(map(str, line)) for line in [header, *lines]) + "\n")
    return path


def test_a_score_is_scipys_percentile_of_the_count_within_its_platform() -> None:
    rng = np.random.default_rng(0)
    counts, platforms = rng.integers(20, size=90).astype(float), ["suno", "udio", "suno"] * 30
    scores = percentile_scores(counts, platforms)
    for index in range(90):
        pool = counts[np.array(platforms) == platforms[index]]
        assert scores[index] == pytest.approx(percentileofscore(pool, counts[index], kind="rank"))


def test_the_exponent_bends_the_percentile_and_keeps_its_ends() -> None:
    scores = percentile_scores(np.array([1.0, 2.0, 3.0, 4.0]), ["suno"] * 4, exponent=2)
    assert scores.tolist() == [100 * (rank / 4) ** 2 for rank in (1, 2, 3, 4)]
    with pytest.raises(DataError, match="the exponent is a number above 0"):
        percentile_scores(np.array([1.0]), ["suno"], exponent=0)


def test_one_pool_ranks_all_platforms_together(tmp_path: Path) -> None:
    counts = write_counts(tmp_path / "counts.csv")
    pooled, apart = (label(counts, LabelConfig(pool=pool)).scores["score_streams"] for pool in (True, False))
    assert not np.array_equal(pooled, apart)
    assert pooled.max() <= 100


def test_the_three_files_hold_every_song_once_with_its_labels(tmp_path: Path) -> None:
    config = LabelConfig()
    write(label(write_counts(tmp_path / "counts.csv"), config), tmp_path / "labels", config)
    splits = {name: pq.read_table(tmp_path / f"labels/{name}.parquet").to_pylist() for name in SPLITS}
    assert sorted(row["id"] for rows in splits.values() for row in rows) == sorted(f"s{i}" for i in range(60))
    assert set(splits["train"][0]["songeval_scores"]) == set(AESTHETICS)
    assert "<img" in (tmp_path / "labels/report.html").read_text()


def test_songs_of_one_artist_share_a_split_and_platforms_are_divided_alike() -> None:
    rng = np.random.default_rng(0)
    groups = [f"artist{i}" for i in rng.integers(300, size=2_000)]
    platforms = ["suno" if int(group[6:]) % 4 else "udio" for group in groups]
    split = assign(groups, platforms, (0.7, 0.2, 0.1), seed=1)
    assert all(len({split[i] for i, g in enumerate(groups) if g == group}) == 1 for group in set(groups))
    for platform in ("suno", "udio"):
        shares = np.bincount(split[np.array(platforms) == platform]) / platforms.count(platform)
        assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.02)


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_the_songs() -> None:
    groups, platforms = [f"s{i}" for i in range(200)], ["suno"] * 200
    split = assign(groups, platforms, seed=1)
    assert np.array_equal(split[::-1], assign(groups[::-1], platforms, seed=1))
    assert not np.array_equal(split, assign(groups, platforms, seed=2))


def test_aesthetics_of_another_file_are_joined_by_id(tmp_path: Path) -> None:
    counts = write_counts(tmp_path / "counts.csv", aesthetics=False)
    path = tmp_path / "songeval.jsonl"
    scores = ", ".join(f'"{name}": {1 + i}' for i, name in enumerate(AESTHETICS))
    lines = [f'{{"id": "s{i}", "songeval_scores": {{{scores}}}}}' for i in reversed(range(60))]
    path.write_text("\n".join(lines))
    assert label(counts, LabelConfig(), path).scores["naturalness"].tolist() == [5.0] * 60
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match=r"lacks 's0' of .*counts.csv, row 1"):
        label(counts, LabelConfig(), path)


def test_an_aesthetic_score_out_of_range_and_an_empty_split_are_refused(tmp_path: Path) -> None:
    counts = write_counts(tmp_path / "counts.csv")
    with pytest.raises(DataError, match="the split 'val' would be empty"):
        label(counts, LabelConfig(fractions=(1, 0, 0)))
    with pytest.raises(DataError, match="are not negative and add up to 1"):
        label(counts, LabelConfig(fractions=(0.5, 0.5, 0.5)))
    counts.write_text(counts.read_text().replace("\ns1,", "\ns1x,").rsplit(",", 1)[0] + ",7\n")
    with pytest.raises(DataError, match="column 'naturalness', row 60: 7 is not between 1 and 5"):
        label(counts, LabelConfig())


def test_the_report_says_plainly_that_the_exponent_is_not_known(tmp_path: Path) -> None:
    config = LabelConfig(group="artist")
    page = report(label(write_counts(tmp_path / "counts.csv"), config), config).html()
    assert "The exponent of the published model is not known" in page
    assert "http" not in page, "a report asks nobody for more"


def test_platforms_and_groups_that_are_spelt_in_two_ways_are_named_in_a_warning(tmp_path: Path) -> None:
    counts = write_counts(tmp_path / "counts.csv")
    counts.write_text(counts.read_text().replace(",suno,", ", Suno,", 5).replace(",artist1,", ",Artist1,", 1))
    labels = label(counts, LabelConfig(group="artist"))
    assert [warning.partition(":")[0] for warning in labels.warnings] == ["platform", "artist"]
    assert "' Suno' and 'suno'" in labels.warnings[0]
    assert "Artist1" in report(labels, LabelConfig(group="artist")).html()
    assert set(labels.platforms) == {"suno", " Suno", "udio"}
    assert label(counts, LabelConfig()).warnings == labels.warnings[:1]


def test_aesthetics_are_joined_by_ids_of_either_unicode_form(tmp_path: Path) -> None:
    counts = write_counts(tmp_path / "counts.csv", aesthetics=False)
    counts.write_text(counts.read_text().replace("s0,", "Déjà,"))
    path = tmp_path / "songeval.csv"
    lines = [f"{name},1,2,3,4,5" for name in ("De\u0301ja\u0300", *(f"s{i}" for i in range(1, 60)))]
    path.write_text("\n".join([f"id,{','.join(AESTHETICS)}", *lines]))
    labels = label(counts, LabelConfig(), path)
    assert (labels.ids[0], labels.scores["naturalness"][0]) == ("Déjà", 5.0)
