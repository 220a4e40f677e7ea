"""Where audio is kept: what a URL may say, and that nothing changes without one."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.misconfiguration import Misconfigured
from app.core.settings import ServiceSettings
from app.core.storage.folder import FolderStorage
from app.core.storage.location import parse_location
from app.core.storage.object_store import ObjectStorage
from app.core.storage.opening import open_storage


def test_without_a_url_audio_is_in_the_data_folder(tmp_path: Path) -> None:
    settings = ServiceSettings(data_dir=tmp_path)
    assert settings.storage_location.folder == tmp_path / "audio"
    assert isinstance(open_storage(settings), FolderStorage)
    assert (tmp_path / "audio").is_dir()


def test_a_file_url_is_the_folder_itself(tmp_path: Path) -> None:
    settings = ServiceSettings(data_dir=tmp_path / "data", storage_url=f"{(tmp_path / 'my audio').as_uri()}")
    assert settings.storage_location.folder == tmp_path / "my audio"
    other = ServiceSettings(data_dir=tmp_path / "data", storage_url=f"{tmp_path.as_uri()}/x", namespace="staging")
    assert other.storage_location.folder == tmp_path / "x" / "namespaces" / "staging"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket", "s3://bucket/apex"),
        ("s3://bucket/", "s3://bucket/apex"),
        ("gs://my.bucket_1/a/b/", "gs://my.bucket_1/a/b/apex"),
        ("az://container/prefix", "az://container/prefix/apex"),
    ],
)
def test_an_object_store_is_used_below_the_namespace(url: str, place: str) -> None:
    assert ServiceSettings(storage_url=url).storage_location.url == place


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "az://container/prefix", "s3://bucket"])
def test_a_client_is_made_without_asking_the_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert isinstance(open_storage(ServiceSettings(storage_url=url)), ObjectStorage)


def test_a_store_whose_variables_are_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(Misconfigured, match="^APEX_STORAGE_URL: .*Account must be specified"):
        open_storage(ServiceSettings(storage_url="az://container/prefix"))


@pytest.mark.parametrize(
    "url",
    [
        "SEKRET",
        "/srv/audio",
        "ftp://host/SEKRET",
        "http://host/SEKRET",
        "file:relative",
        "file://host/SEKRET",
        "file:///",
        "s3://",
        "s3:///SEKRET",
        "s3://key:SEKRET@bucket/prefix",
        "s3://bucket/prefix?token=SEKRET",
        "s3://bucket/prefix#SEKRET",
        "s3://bucket/../SEKRET",
        "s3://bucket/a//SEKRET",
        "s3://buck et/SEKRET",
        "s3://[SEKRET",
        "az://container:80/SEKRET",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_a_sentence_that_does_not_show_it(url: str) -> None:
    with pytest.raises(ValidationError) as raised:
        ServiceSettings(storage_url=url)
    [error] = raised.value.errors()
    assert error["loc"] == ("storage_url",)
    assert "SEKRET" not in error["msg"]
    with pytest.raises(ValueError, match="must|is not"):
        parse_location(url)
