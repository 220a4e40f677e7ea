"""A data directory that an old version left: unpacked as if its processes had been killed a moment ago.

Redis writes down when a key expires, not for how long it lives, so in an old archive everything would have expired.
Those times are moved on by the archive's age. All other times are left as they are.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

Command = list[bytes]


def unpack(archive: Path, into: Path, *, age_s: float) -> Path:
    """The data directory, in which every key has as long to live as when it was archived."""
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    aof = _aof(into / "data")
    later = [_expiring_later(command, round(age_s * 1000)) for command in commands(aof.read_bytes())]
    aof.write_bytes(b"".join(map(_written, later)))
    return into / "data"


def queued_tasks(data_dir: Path) -> dict[str, str]:
    """The name of the function that RQ was told to call, by the id of the job that was queued."""
    tasks = {}
    for command in commands(_aof(data_dir).read_bytes()):
        match command:
            case [b"HSET", key, *fields] if key.startswith(b"rq:job:") and b"data" in fields[::2]:
                data = fields[fields.index(b"data") + 1]
                tasks[key.decode().removeprefix("rq:job:")] = json.loads(_decompressed(data))[0]
    return tasks


def _decompressed(data: bytes) -> bytes:
    """RQ compresses what it is given in Python, and reads what is plain, too."""
    return data if data.startswith(b"[") else zlib.decompress(data)


def commands(aof: bytes) -> Iterator[Command]:
    """The commands of an append-only file, each with its arguments: arrays of strings in Redis's protocol, RESP."""
    file = BytesIO(aof)
    while head := file.readline():
        yield [file.read(int(file.readline()[1:]) + len(b"\r\n"))[:-2] for _ in range(int(head[1:]))]


def _written(command: Command) -> bytes:
    return b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in command)


def _expiring_later(command: Command, ms: int) -> Command:
    """The command with its `PEXPIREAT key time` or `SET key value PXAT time` moved on; others as they are."""
    match command:
        case [b"PEXPIREAT", key, time, *options]:
            return [b"PEXPIREAT", key, b"%d" % (int(time) + ms), *options]
        case [b"SET", key, value, b"PXAT", time]:
            return [b"SET", key, value, b"PXAT", b"%d" % (int(time) + ms)]
    return command


def _aof(data_dir: Path) -> Path:
    """The file that holds everything: a service that never restarted has one, after a base that is empty."""
    [file] = (data_dir / "redis" / "appendonlydir").glob("*.incr.aof")
    return file
