"""`apex weights`: what it fetches and how it shows what there is."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from model.weights.directory import FileEntry, Manifest
from model.weights.hub import PUBLISHED, HubSource


@pytest.mark.parametrize(
    ("flags", "revision"), [((), PUBLISHED[1].revision), (("--head-revision", "refs/pr/1"), "refs/pr/1")]
)
def test_pull_takes_the_pinned_head_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], revision: str
) -> None:
    asked: list[HubSource] = []

    def pull(directory: Path, *, sources: tuple[HubSource, ...], **_: Any) -> Manifest:
        asked.extend(sources)
        return Manifest(trained=True, files={"apex/best_model.pt": FileEntry("0" * 64, 1, "a/[b]/c.pt", "blob:1")})

    monkeypatch.setattr("model.weights.directory.pull", pull)
    done = CliRunner().invoke(app, ["weights", "pull", str(tmp_path / "[/w]"), *flags], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert [source.revision for source in asked] == [PUBLISHED[0].revision, revision]
    assert "[/w] (trained)" in done.output
    assert "a/[b]/c.pt@blob:1" in done.output
