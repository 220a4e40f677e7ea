"""The names in Redis: the namespace precedes each, and the default one gives what was there before."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.redis.keys import RedisKeys
from app.core.settings import ServiceSettings


def names(keys: RedisKeys) -> Iterator[str]:
    """Every name that there is."""
    for member, value in vars(RedisKeys).items():
        if isinstance(value, property):
            found = getattr(keys, member)
            yield from [found] if isinstance(found, str) else found
        elif inspect.isfunction(value) and not member.startswith("_"):
            arguments = ["x"] * (len(inspect.signature(value).parameters) - 1)
            found = getattr(keys, member)(*arguments)
            yield from [found] if isinstance(found, str) else found


def test_every_name_begins_with_the_namespace() -> None:
    found = list(names(RedisKeys("stage")))
    assert len(found) > 20
    assert [name for name in found if not name.startswith("stage:")] == []


def test_the_default_namespace_has_the_names_of_before() -> None:
    settings = ServiceSettings(data_dir=Path("data"))
    assert settings.redis_keys.record("job_1") == "apex:job:job_1"
    assert (settings.rq_queue_name, settings.audio_dir) == ("scores", Path("data/audio"))


def test_another_namespace_has_a_queue_and_a_folder_of_its_own() -> None:
    settings = ServiceSettings(namespace="stage", data_dir=Path("data"))
    assert (settings.rq_queue_name, settings.audio_dir) == ("stage.scores", Path("data/namespaces/stage/audio"))


@pytest.mark.parametrize("name", ["", "rq", "a:b", "Stage", "a b", "../x", "st*ge", "-stage", "x" * 33, "stage\n"])
def test_a_namespace_is_a_short_word_that_is_not_rqs(name: str) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings(namespace=name)
