"""The data folder's disk full, and its folders read-only or gone, for seconds at a time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests import mounts
from tests.attack.phase import Attack

Fault = Callable[[Attack], AbstractContextManager[None]]

#: Of the disk with all data on it: uploads, scratch files, and Redis's append-only file.
DISK_BYTES = 768 << 20
FAULT_S = (1.0, 12.0)
REST_S = (2.0, 5.0)
#: Room for Redis, and for no upload.
LITTLE_BYTES = 2 << 20


def disk_faults(attack: Attack) -> None:
    attack.inflict(FAULTS, for_s=FAULT_S, rest_s=REST_S)


def lacks_mounts() -> str:
    return "" if mounts.may_mount() else "the right to mount a file system"


def full(attack: Attack) -> AbstractContextManager[None]:
    return mounts.filled(attack.target.data_dir)


def nearly_full(attack: Attack) -> AbstractContextManager[None]:
    return mounts.filled(attack.target.data_dir, leaving_bytes=LITTLE_BYTES)


def on(name: str, fault: Callable[[Path], AbstractContextManager[None]]) -> Fault:
    """A fault of one of the folders."""

    @contextmanager
    def of(attack: Attack) -> Iterator[None]:
        with fault(attack.target.data_dir / name):
            yield

    return of


FAULTS: dict[str, Fault] = {
    "the disk full": full,
    "the disk nearly full": nearly_full,
    "audio read-only": on("audio", mounts.read_only),
    "audio gone": on("audio", mounts.gone),
    "scratch read-only": on("scratch", mounts.read_only),
    "scratch gone": on("scratch", mounts.gone),
}
