"""How a worker process ends that cannot start: with a sentence, and a status that says whether to try again."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from app.core.misconfiguration import EXIT_MISCONFIGURED
from app.core.settings import WorkerSettings
from model.domain import ApexError, DeviceError, DeviceLost, DeviceOutOfMemory
from worker import process
from worker.score_track import EXIT_DEVICE_LOST


def decoding(_settings: WorkerSettings) -> Any:
    return nullcontext()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeviceOutOfMemory("cuda has not enough memory left for the network"), EXIT_DEVICE_LOST),
        (DeviceLost("cuda failed: no kernel image"), EXIT_DEVICE_LOST),
        (DeviceError("there is no device 'cuda:7'"), EXIT_MISCONFIGURED),
    ],
)
def test_a_worker_that_cannot_load_its_model_says_why_and_whether_to_start_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: ApexError, status: int
) -> None:
    def load(_settings: WorkerSettings) -> Any:
        raise error

    monkeypatch.setenv("APEX_DATA_DIR", str(tmp_path))
    for whole_process in ("configure_logging", "ignore_hangup"):
        monkeypatch.setattr(process, whole_process, lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        process.serve(load, decoding)
    assert ended.value.code == status
    assert [(record.message, record.exc_info) for record in caplog.records] == [(f"cannot start: {error}", None)]
