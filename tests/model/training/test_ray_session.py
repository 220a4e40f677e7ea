"""Ray is this run's own, or the cluster that RAY_ADDRESS names."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from model.domain import ApexError
from model.training import ray_session as sessions


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """How a Ray was started that fails twice."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    made: list[tuple[str, dict[str, Any]]] = []

    def init(address: str, **options: Any) -> None:
        made.append((address, options))
        if len(made) < 3:
            raise RuntimeError("The node timed out\nduring startup")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init, shutdown=lambda: None))
    return made


def test_another_cluster_on_this_machine_is_not_joined_and_a_slow_start_is_tried_again(
    calls: list[tuple[str, dict[str, Any]]],
) -> None:
    with sessions.ray_session(n_actors=70):
        assert [address for address, _ in calls] == ["local"] * 3
        assert calls[-1][1]["num_cpus"] >= 70


def test_a_cluster_that_is_named_is_joined_as_it_is(
    calls: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with sessions.ray_session():
        assert calls[-1][0] == "10.0.0.1:6379"
        assert "num_cpus" not in calls[-1][1]


def test_a_ray_that_does_not_start_ends_in_a_sentence(
    calls: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TRIES", 2)
    sentence = "^Ray cannot be started or reached: The node timed out during startup$"
    with pytest.raises(ApexError, match=sentence), sessions.ray_session():
        pytest.fail("it was started")
