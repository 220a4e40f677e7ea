"""Storages of every kind, each with real servers behind it."""

from collections.abc import Iterator, Mapping

import pytest

from app.core.storage.location import parse_location
from app.core.storage.object_store import ObjectStorage
from tests.app.core.storage.servers import azurite


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    with azurite(tmp_path_factory.mktemp("azure")) as environment:
        yield environment


def object_storage(
    patch: pytest.MonkeyPatch, environment: Mapping[str, str], url: str, *, timeout_s: float = 20
) -> ObjectStorage:
    """A storage with these variables, at a prefix of its own."""
    for name, value in environment.items():
        patch.setenv(name, value)
    return ObjectStorage(parse_location(url), timeout_s=timeout_s)
