"""Lua scripts: that they are installed with the code, and how they are called."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from redis import Redis

from app.core.lua import script
from app.core.lua.script import LuaScript

ROOT = Path(__file__).parents[4]
FILES = {str(path.relative_to(ROOT)) for path in (ROOT / "app").rglob("*.lua")}


def test_every_lua_file_is_in_the_wheel(tmp_path: Path) -> None:
    """Both images install the wheel too."""
    source = tmp_path / "source"
    for name in ("app", "worker", "model"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", tmp_path, source], check=True)
    [wheel] = tmp_path.glob("*.whl")
    assert len(FILES) > 10
    assert set(zipfile.ZipFile(wheel).namelist()) >= FILES


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_script_names_no_key(path: str) -> None:
    """Keys come through KEYS, so that one module names them all."""
    text = (ROOT / path).read_text()
    assert "apex:" not in text
    assert "rq:" not in text


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_script_says_first_what_it_does(path: str) -> None:
    assert (ROOT / path).read_text().startswith("-- ")


def test_arguments_have_names_and_none_is_left_out(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "return {args.text, args.number, args.flag and 1 or 0, args.nothing == nil and 1 or 0, KEYS[1]}"
    real = script.source
    monkeypatch.setattr(script, "source", lambda path: body if path == "body" else real(path))
    answer = LuaScript(redis, "body")(["key"], text='ü"', number=3, flag=False, nothing=None)
    assert answer == ['ü"'.encode(), 3, 0, 1, b"key"]
