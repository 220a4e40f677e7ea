"""No way leads out of the sandbox, and each layer closes its ways by itself."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from model.audio.sandbox.forkserver import ForkServer
from model.audio.sandbox.layers import LAYERS

Escape = Callable[..., dict[str, Any]]

WAYS = {"read", "list", "write", "connect", "fork", "allocate", "signal", "root"}
CLOSED_BY = {
    ("network",): {"connect"},
    ("landlock", "no_new_privileges"): {"read", "list", "write"},
    ("memory",): {"allocate"},
    ("descriptors",): {"read", "list", "write", "connect"},
    ("processes", "unprivileged"): {"fork"},
    ("syscalls", "no_new_privileges"): {"read", "list", "write", "connect", "fork", "signal", "root"},
}


@pytest.fixture(scope="module")
def escape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Escape]:
    """Tells which ways out are open to a child with the given layers, and which of these this machine could apply."""
    target = tmp_path_factory.mktemp("outside") / "escaped"
    target.parent.chmod(0o777)
    with (
        closing(ForkServer("tests.model.audio.decode_targets:escape")) as server,
        socket.create_server(("", 0)) as listener,
    ):
        listener.listen(64)
        outside = {"port": listener.getsockname()[1], "file": str(target), "bystander": os.getpid()}

        def run(*layers: str) -> dict[str, Any]:
            with server.fork({"layers": layers, **outside}) as child:
                found: dict[str, Any] = json.loads(child.reply(20))
            return found

        yield run


def test_without_layers_every_way_but_the_way_to_root_again_is_open(escape: Escape) -> None:
    assert set(escape()["open"]) >= WAYS - {"root", "allocate"}


@pytest.mark.parametrize("layers", CLOSED_BY, ids=lambda layers: layers[0])
def test_each_layer_closes_its_ways_by_itself(escape: Escape, layers: tuple[str, ...]) -> None:
    found = escape(*layers)
    if layers[0] not in found["up"]:
        pytest.skip(f"{layers[0]} cannot be had on this machine")
    assert not CLOSED_BY[layers] & set(found["open"])


def test_with_all_layers_no_way_is_open(escape: Escape) -> None:
    found = escape(*LAYERS)
    missing = set(LAYERS) - set(found["up"])
    if missing:
        pytest.skip(f"this machine does not have {', '.join(sorted(missing))}")
    assert found["open"] == []


def test_layers_are_named_in_the_order_in_which_they_are_applied(escape: Escape) -> None:
    up = escape(*LAYERS)["up"]
    assert up == [name for name in LAYERS if name in up]
    assert {"memory", "cpu", "file_size", "descriptors", "no_new_privileges", "parent_death"} <= set(up)


def test_a_fresh_child_holds_no_network_library_no_secret_and_no_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APEX_SECRET", "hunter2")
    with closing(ForkServer("tests.model.audio.decode_targets:describe")) as server, server.fork({}) as child:
        found = json.loads(child.reply(20))
    assert not {"torch", "transformers", "redis", "rq", "fastapi", "pytest"} & set(found["packages"])
    assert "APEX_SECRET" not in found["environment"]
    assert found["n_threads"] == 1


def test_the_fork_server_leaves_the_network_once_for_its_children(escape: Escape) -> None:
    if "network" not in escape("network")["up"]:
        pytest.skip("network cannot be had on this machine")
    with closing(ForkServer("tests.model.audio.sandbox.offline:where")) as server:
        namespaces = set[str]()
        for _ in range(2):
            with server.fork({}) as child:
                namespaces |= set(json.loads(child.reply(20)).values())
    assert len(namespaces) == 1
    assert os.readlink("/proc/self/ns/net") not in namespaces
