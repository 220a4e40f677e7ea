"""Settings: documented, typed, and refused when wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.settings import ApiSettings, ServiceSettings, WorkerSettings


@pytest.mark.parametrize("kind", [ServiceSettings, ApiSettings, WorkerSettings])
def test_every_setting_is_documented(kind: type[ServiceSettings]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEX_MAX_UPLOAD_BYTES", "4096")
    assert ApiSettings().max_upload_bytes == 4096


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_may_be_open(host: str) -> None:
    assert ApiSettings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_open_door_to_others_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="no API keys are set"):
        ApiSettings(host=host)


def test_an_open_door_can_be_asked_for() -> None:
    assert ApiSettings(host="0.0.0.0", allow_unauthenticated=True).allow_unauthenticated


def test_keys_close_the_door(tmp_path: Path) -> None:
    assert ApiSettings(host="0.0.0.0", api_keys_file=tmp_path / "keys")


@pytest.mark.parametrize(
    ("name", "value"), [("max_upload_bytes", 0), ("port", 70000), ("device", "tpu"), ("workers", 0)]
)
def test_a_wrong_value_is_refused_at_the_start(name: str, value: object) -> None:
    kind = ApiSettings if name in ApiSettings.model_fields else WorkerSettings
    with pytest.raises(ValidationError):
        kind(**{name: value})  # type: ignore[arg-type]
