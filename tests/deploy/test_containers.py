"""The Docker files say what an operator relies on. They are read here; no engine is needed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.core.settings import ApiSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


REDIS_START = (ROOT / "deploy" / "redis.sh").read_text()


def stage(name: str) -> str:
    """The instructions of one stage of the Dockerfile."""
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found, f"no stage {name}"
    return found[1]


@pytest.mark.parametrize("image", ["api", "worker"])
def test_an_image_runs_as_nobody_in_particular_with_a_health_check(image: str) -> None:
    lines = stage(image)
    assert "USER 10001:10001" in lines
    assert "HEALTHCHECK" in lines


@pytest.mark.parametrize("image", ["api", "worker"])
def test_programs_are_started_in_exec_form(image: str) -> None:
    assert re.search(r'^CMD \["apex", "(api|worker)"\]$', stage(image), re.MULTILINE)
    assert re.search(r'^    CMD \["python", ', stage(image), re.MULTILINE)


def test_bases_can_be_pinned_by_digest() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    outside = {base for base, _ in stages} - {name for _, name in stages}
    assert outside == {"${PYTHON_IMAGE}"}


def test_the_api_image_has_no_numeric_package() -> None:
    assert "'.[" not in stage("build-api")
    assert "'.[worker,gpu]'" in stage("build-worker")


def test_what_is_installed_is_pinned_and_comes_before_the_code() -> None:
    for image in ("build-api", "build-worker"):
        lines = stage(image)
        assert lines.index("--constraint constraints.txt") < lines.index("COPY app")


def test_nothing_is_fetched_by_the_dockerfile_itself() -> None:
    assert not re.search(r"^ADD |curl|wget|https?://(?!127\.0\.0\.1)", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert service["mem_limit"]
    assert all("size=" in mount for mount in service["tmpfs"])


def test_redis_is_durable_and_not_published() -> None:
    redis = SERVICES["redis"]
    assert "ports" not in redis
    assert redis["command"] == ["/etc/apex/redis.sh"]
    assert "--appendonly yes --appendfsync always --save '' --maxmemory-policy noeviction" in REDIS_START
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert redis["networks"] == ["inside"]


@pytest.mark.parametrize(("name", "user"), [("api", "api"), ("worker", "worker"), ("worker-cpu", "worker")])
def test_a_process_comes_to_redis_as_its_own_user(name: str, user: str) -> None:
    variable = f"APEX_REDIS_{user.upper()}_PASSWORD"
    assert SERVICES[name]["environment"]["APEX_REDIS_URL"].startswith(f"redis://{user}:${{{variable}:?")
    assert variable in SERVICES["redis"]["environment"]
    assert f"${variable}" in REDIS_START


def test_the_open_api_is_published_on_this_machine_only() -> None:
    assert SERVICES["api"]["ports"] == ["127.0.0.1:${APEX_PORT:-8000}:8000"]


@pytest.mark.parametrize("name", ["api", "worker", "worker-cpu"])
def test_a_process_waits_for_redis_and_shares_the_audio(name: str) -> None:
    assert SERVICES[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "audio:/data" in SERVICES[name]["volumes"]


def test_workers_read_weights_and_cannot_change_them() -> None:
    for name in ("worker", "worker-cpu"):
        assert "weights:/weights:ro" in SERVICES[name]["volumes"]


def test_one_worker_reserves_a_gpu_and_the_other_runs_without() -> None:
    devices = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert "deploy" not in SERVICES["worker-cpu"]
    assert {SERVICES["worker"]["profiles"][0], SERVICES["worker-cpu"]["profiles"][0]} == {"gpu", "cpu"}


def test_no_secret_is_written_into_an_image_or_a_file() -> None:
    assert not re.search(r"^(ENV|ARG)\b.*(KEY|SECRET|TOKEN|PASSWORD)", DOCKERFILE, re.MULTILINE)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search(r"KEY(?!S_FILE)|SECRET|TOKEN|PASSWORD", name) or re.fullmatch(
                r"\$\{\w+:\?.+\}", value
            ), name
            assert not re.search(r"://[^$@/]*:[^$@/]+@", str(value)), name


def test_a_process_has_longer_to_stop_than_it_takes() -> None:
    settings = ApiSettings()
    assert seconds(SERVICES["api"]) > settings.stop_grace_s + settings.lame_duck_s
    assert seconds(SERVICES["worker"]) > settings.stop_grace_s


def seconds(service: dict[str, Any]) -> int:
    return int(service["stop_grace_period"].removesuffix("s"))
