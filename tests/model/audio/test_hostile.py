"""The catalogue of hostile files: each ends as it should, twice alike, soon, and touches nothing outside."""

import os
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from model.audio.decode_errors import DECODE_ERRORS, decode_error
from model.audio.decoder import Decoder
from model.domain import AudioError, AudioLimits
from tests.model.audio.files.hostile import BOMBS, DECODES, LIES, POLYGLOTS, Build, readers
from tests.model.audio.test_containers import NOT_AUDIO
from tests.model.tracks import KINDS, track_file
from tests.strace import attached

LIMITS = AudioLimits(max_duration_s=120.0)
#: As little as a worker may be told to give: the settings' floor.
MEMORY_BYTES = 256 << 20
REASONS = {str(decode_error(reason, LIMITS)): reason for reason in DECODE_ERRORS}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    with Decoder(LIMITS, memory_bytes=MEMORY_BYTES, scratch_dir=tmp_path_factory.mktemp("scratch")) as decoder:
        yield decoder


def outcome(decoder: Decoder, data: bytes) -> str:
    """The reason of the refusal, or DECODES."""
    with open(os.memfd_create("track"), "w+b", buffering=0) as file:
        file.write(data)
        try:
            decoder.decode(file).close()
        except AudioError as error:
            return REASONS[str(error)]
    return DECODES


@pytest.mark.parametrize(("build", "expected"), LIES.values(), ids=LIES.keys())
def test_a_header_that_lies_is_found_out_or_does_not_matter(decoder: Decoder, build: Build, expected: str) -> None:
    data = build()
    assert [outcome(decoder, data), outcome(decoder, data)] == [expected, expected]


@pytest.mark.parametrize(("build", "expected"), POLYGLOTS.values(), ids=POLYGLOTS.keys())
def test_a_file_of_two_kinds_is_the_one_or_nothing(decoder: Decoder, build: Build, expected: str) -> None:
    assert outcome(decoder, build()) == expected


@pytest.mark.parametrize(("build", "expected"), BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_before_it_goes_off(decoder: Decoder, build: Build, expected: str) -> None:
    data = build()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert outcome(decoder, data) == expected
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * MIB / 1024


@contextmanager
def listening() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP and a UDP socket on the same free port, which nobody should speak to."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(tcp.getsockname())
        tcp.setblocking(False)
        udp.setblocking(False)
        yield tcp, udp


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary.wav"
    path.write_bytes(track_file("wav-16"))
    os.utime(path, (1, 2))
    return path


def test_a_script_opens_no_other_file_and_no_connection(decoder: Decoder, canary: Path) -> None:
    with listening() as (tcp, udp):
        for name, data in readers(canary, tcp.getsockname()[1]).items():
            assert outcome(decoder, data) in ("container", "broken", "truncated"), name
        for listener in (tcp, udp):
            with pytest.raises(BlockingIOError):
                listener.accept() if listener is tcp else listener.recv(1)
    assert canary.stat().st_atime == 1


# The kernel's own record

#: What a child may try to open, in whatever way: where its output goes.
OPENED = {"/dev/null"}
TRACED = "open,openat,openat2,creat,connect,socket,bind,listen,accept4,execve,execveat,link,symlink,rename,unlink,mkdir"


def traced(pid: int, record: Path) -> AbstractContextManager[None]:
    """Records what a process and its children ask the kernel for, as long as the block."""
    return attached(pid, "-s", "4096", "-o", str(record), "-e", f"trace={TRACED}")


@pytest.mark.needs("strace")
def test_the_kernel_saw_no_child_reach_for_anything_outside(tmp_path: Path, canary: Path) -> None:
    record = tmp_path / "trace"
    catalogue = [build() for table in (LIES, BOMBS, POLYGLOTS) for build, _ in table.values()]
    scripts = readers(canary, 9).values()
    good = [track_file(kind) for kind in KINDS if kind != "mp4-ac3"]
    with Decoder(LIMITS, scratch_dir=tmp_path) as decoder, traced(server_pid(), record):
        for data in [*catalogue, *NOT_AUDIO.values(), *scripts, *good]:
            outcome(decoder, data)
    reached = [re.sub(r"^\d+ +", "", line) for line in record.read_text().splitlines()]
    calls = {line.partition("(")[0] for line in reached if re.match(r"\w+\(", line)}
    opened = {path for line in reached for path in re.findall(r'"([^"]*)"', line)}
    assert calls == {"openat"}
    assert opened == OPENED
    assert len(reached) > len(catalogue) + len(scripts) + len(good)  # each child was seen


def server_pid() -> int:
    """The fork server that was started last. The kernel lists children in the order of their start."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in children if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()][-1]
