"""`docs/api.md`: every example is run as it stands, and every table says what is so."""

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.routes.model import MEANINGS
from app.api.test_mode.outcomes import OUTCOMES
from app.api.uploads.multipart import MAX_BATCH_FILES
from app.core.callers import SCOPES
from app.core.jobs.models import MAX_BATCH_ITEMS
from app.core.problems import PROBLEMS
from app.core.settings import ApiSettings
from app.egress.messages import signed_headers
from model.domain import SCORE_RANGES, SCORE_TOLERANCES
from tests.app.egress.sources import SECRET, source
from tests.clients.npm import MODULES, NODE, tool
from tests.clients.packages import PYTHON, build_typescript
from tests.docs.broken_line import BrokenLine, broken_line
from tests.docs.receivers import ExampleReceiver, as_cgi, listening
from tests.e2e.service import Service, running
from tests.installed import installed
from tests.model import tracks
from tests.redis_servers import until

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()

LANGUAGES = ("bash", "python", "typescript")
#: Of the official clients.
OF_CLIENTS = ("python", "typescript")
COMMANDS: dict[str, tuple[list[str], str]] = {
    "bash": (["bash", "-euo", "pipefail"], "example.sh"),
    "python": ([sys.executable, "-W", "error"], "example.py"),
    "typescript": ([str(NODE)], "example.mts"),
}
EXAMPLE_S = 90
FORGED = b'{"type": "job.succeeded", "data": {"id": "job_forged"}}'
RATE_HZ = 8_000


@dataclass(frozen=True)
class Example:
    """A block of code under a heading."""

    section: str
    language: str
    code: str


def examples() -> Iterator[Example]:
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        for language, code in re.findall(r"^```(bash|python|typescript)\n(.*?)^```$", part, re.DOTALL | re.MULTILINE):
            yield Example(part.partition("\n")[0], language, code)


EXAMPLES = {(example.section, example.language): example for example in examples()}


@dataclass(frozen=True)
class Client:
    """A customer of a running service, who has a key and a folder of tracks."""

    service: Service
    key: str
    folder: Path

    def track(self, name: str, *, duration_s: int) -> Path:
        """A track that no other example has."""
        path = self.folder / f"{name}.wav"
        salt = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2]) % 4000
        path.write_bytes(tracks.wav(tracks.ramp(duration_s * RATE_HZ + salt), RATE_HZ))
        return path

    def run(
        self, example: Example, *, duration_s: int = 2, url: str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """What the example prints."""
        command, name = COMMANDS[example.language]
        (self.folder / name).write_text(example.code)
        variables = {
            "PYTHONPATH": str(PYTHON / "src"),
            **(env or {}),
            "APEX_URL": url or self.service.url.rstrip("/"),
            "APEX_KEY": self.key,
            "TRACK": str(self.track(f"{example.section} {example.language}", duration_s=duration_s)),
            "OTHER_TRACK": str(self.track(f"{example.section} {example.language} other", duration_s=duration_s)),
        }
        done = subprocess.run(
            [*command, name], cwd=self.folder, env=os.environ | variables, capture_output=True, timeout=EXAMPLE_S
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()

    def jobs(self, example: Example) -> list[Any]:
        """The jobs that an example made of its track."""
        sha256 = hashlib.sha256((self.folder / f"{example.section} {example.language}.wav").read_bytes()).hexdigest()
        headers = {"Authorization": f"Bearer {self.key}"}
        listed = self.service.client.get("/jobs?limit=100", headers=headers).raise_for_status().json()["items"]
        return [job for job in listed if job["audio"]["sha256"] == sha256]


@pytest.fixture(scope="module")
def keyed(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A service of its own, because the first key closes it to the tests that have none."""
    data_dir = tmp_path_factory.mktemp("keyed")
    called = {"webhook_hosts": "127.0.0.1", "audio_url_hosts": "127.0.0.1", "egress_networks": "127.0.0.0/8"}
    with running(tiny_weights, data_dir, **called) as service:
        apex = [sys.executable, "-m", "app.cli", "keys", "create", "--tenant", "acme", "--data-dir", str(data_dir)]
        scopes = ["--scopes", ",".join(SCOPES)]
        yield service, subprocess.run([*apex, *scopes], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def webhook_secret(keyed: tuple[Service, str]) -> str:
    """What signs the customer's webhooks."""
    words = ["webhooks", "secret", "create", "--tenant", "acme", "--data-dir", str(keyed[0].data_dir)]
    apex = [sys.executable, "-m", "app.cli", *words]
    return subprocess.run(apex, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def client(keyed: tuple[Service, str], tmp_path: Path) -> Client:
    return Client(*keyed, tmp_path)


@pytest.fixture
def tester(client: Client) -> Client:
    """The same customer with a test key."""
    data_dir = str(client.service.data_dir)
    apex = [sys.executable, "-m", "app.cli", "keys", "create", "--tenant", "acme", "--test", "--data-dir", data_dir]
    return replace(client, key=subprocess.run(apex, check=True, capture_output=True, text=True).stdout.strip())


def example_of(section: str, language: str) -> Example:
    if language == "bash":
        installed("curl")
    return EXAMPLES[section, language]


languages = pytest.mark.parametrize("language", LANGUAGES)


@languages
@pytest.mark.parametrize("section", ["Submit and poll", "Wait instead of polling"])
def test_a_track_is_sent_and_its_scores_are_read(client: Client, section: str, language: str) -> None:
    printed = client.run(example_of(section, language))
    assert all(name in printed for name in SCORE_RANGES)


@languages
def test_a_track_is_one_job_although_the_first_answer_is_lost(client: Client, language: str) -> None:
    example = example_of("Retry without scoring twice", language)
    with line_to(client, b"HTTP/1.1 202", pass_on=False) as line:
        printed = client.run(example, url=line.url)
    assert line.n_broken == 1
    [job] = client.jobs(example)
    assert job["id"] in printed


@languages
def test_events_are_followed_to_the_end_over_a_line_that_breaks(client: Client, language: str) -> None:
    example = example_of("Follow the events", language)
    with line_to(client, b"job.snapshot", pass_on=True) as line:
        printed = client.run(example, duration_s=500, url=line.url)  # not over before the stream is open
    assert line.n_broken == 1
    assert re.search(rb"last-event-id: \d+-\d+\r\n", b"".join(line.sent), re.IGNORECASE)
    assert "job.snapshot" in printed
    assert "job.progress" in printed
    assert "job.succeeded" in printed


@languages
def test_a_batch_is_sent_and_all_its_scores_are_read(client: Client, language: str) -> None:
    printed = client.run(example_of("Send many tracks", language))
    assert len(re.findall(r'["\']?scores["\']?: ?\{', printed)) == 2


@languages
def test_tracks_are_fetched_and_all_their_scores_are_read(client: Client, language: str) -> None:
    contents = {name: client.track(f"{language} {name}", duration_s=2).read_bytes() for name in ("a", "b")}
    with source(contents["a"]) as first, source(contents["b"]) as second:
        urls = {"TRACK_URL": first.url("track"), "OTHER_TRACK_URL": second.url("track")}
        printed = client.run(example_of("Audio by URL", language), env=urls)
    assert len(re.findall(r'["\']?scores["\']?: ?\{', printed)) == 2
    assert SECRET not in printed


@contextmanager
def receiver_of(client: Client, language: str, secret: str) -> Iterator[ExampleReceiver]:
    """The receiver of the page, in a language."""
    command, name = COMMANDS[language]
    (client.folder / name).write_text(example_of("Receive webhooks", language).code)
    (client.folder / "node_modules").symlink_to(MODULES)
    variables = {"WEBHOOK_SECRET": secret, "APEX_URL": client.service.url.rstrip("/"), "APEX_KEY": client.key}
    run = as_cgi if language == "bash" else listening
    with run([*command, name], client.folder, variables) as receiver:
        yield receiver


@languages
def test_a_receiver_believes_what_is_signed_now_and_nothing_else(
    client: Client, webhook_secret: str, language: str
) -> None:
    with receiver_of(client, language, webhook_secret) as receiver:
        for secret, age_s in ((f"whsec_{'A' * 44}", 0), (webhook_secret, 3600)):
            headers = signed_headers("evt_forged", FORGED, [secret], time.time() - age_s)
            assert httpx.post(receiver.url, content=FORGED, headers=headers).status_code == 400
        sending = replace(client, folder=client.folder / "sending")
        sending.folder.mkdir()
        example = example_of("Webhooks", language)
        printed = sending.run(example, env={"WEBHOOK_URL": receiver.url})
        [job] = sending.jobs(example)
        until(lambda: job["id"] in receiver.printed())
        assert "forged" not in receiver.printed()
        assert re.search(r"""status_code["']: ?204""", printed)


@languages
def test_a_batch_is_followed_and_its_results_are_read_in_one_answer(tester: Client, language: str) -> None:
    printed = tester.run(example_of("Lists and results", language))
    assert len(re.findall("succeeded", printed)) == 2
    assert len(re.findall(r"\b[1-5]\.\d+\b", printed)) >= 2


@languages
def test_a_long_job_is_canceled(client: Client, language: str) -> None:
    printed = client.run(example_of("Cancel", language), duration_s=800)
    assert "canceled" in printed
    assert "by_client" in printed


@languages
def test_finished_jobs_are_compared(client: Client, language: str) -> None:
    for name in ("a", "b"):
        with client.track(f"{language} {name}", duration_s=2).open("rb") as track:
            headers = {"Authorization": f"Bearer {client.key}", "Prefer": "wait=30"}
            client.service.client.post("/score", files={"file": track}, headers=headers).raise_for_status()
    printed = client.run(example_of("Compare", language))
    assert len(set(re.findall("job_[0-9a-f]{32}", printed))) >= 2
    assert "The model is untrained" in printed


@languages
def test_a_test_key_gets_the_outcome_that_was_asked_for(tester: Client, language: str) -> None:
    assert "audio_undecodable" in tester.run(example_of("Test keys", language))


@languages
def test_usage_is_read(tester: Client, language: str) -> None:
    headers = {"Authorization": f"Bearer {tester.key}", "Prefer": "wait=30"}
    with tester.track(f"usage {language}", duration_s=2).open("rb") as track:
        tester.service.client.post("/score", files={"file": track}, headers=headers).raise_for_status()
    printed = tester.run(example_of("Usage", language))
    assert "inflight" in printed
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", printed)


@languages
def test_segments_and_an_embedding_are_read(client: Client, language: str) -> None:
    example = example_of("Segments and embeddings", language)
    printed = client.run(example, duration_s=61)
    [job] = client.jobs(example)
    assert len(job["result"]["segments"]) == 3
    for said in (str(job["result"]["segments"][2]["scores"]["clarity"]), "trained on songs", "segment_bootstrap"):
        assert said in printed
    assert "layer_mix" in printed


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages that the TypeScript examples use."""
    folder = tmp_path_factory.mktemp("modules")
    build_typescript(folder / "apex-client")
    for name in ("@types", "standardwebhooks"):
        (folder / name).symlink_to(MODULES / name)
    return folder


@pytest.mark.parametrize("language", OF_CLIENTS)
def test_an_official_client_scores_a_track(client: Client, modules: Path, language: str) -> None:
    (client.folder / "node_modules").symlink_to(modules)
    printed = client.run(example_of("Official clients", language))
    assert all(name in printed for name in SCORE_RANGES)


@contextmanager
def line_to(client: Client, word: bytes, *, pass_on: bool) -> Iterator[BrokenLine]:
    url = httpx.URL(client.service.url)
    with broken_line((url.host, url.port or 80), word, pass_on=pass_on) as line:
        yield line


def test_every_section_with_an_example_has_it_in_every_language() -> None:
    sections = {section for section, _ in EXAMPLES}
    assert len(sections) == 15
    languages = dict.fromkeys(sections, LANGUAGES) | {"Official clients": OF_CLIENTS}
    assert set(EXAMPLES) == {(section, language) for section in sections for language in languages[section]}


def between(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_table_of_errors_is_the_one_in_the_code() -> None:
    rows = ["| status | code | when | what to do | retry |", "| --- | --- | --- | --- | --- |"]
    for kind in sorted(PROBLEMS.values(), key=lambda kind: kind.status):
        retry = "yes" if kind.retryable else "no"
        rows.append(f"| {kind.status} | `{kind.code}` | {kind.meaning} | {kind.remedy} | {retry} |")
    assert between("problems") == "\n".join(rows) + "\n"


def test_the_table_of_scores_is_the_one_in_the_code() -> None:
    rows = ["| score | range | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{name}` | {low:g} to {high:g} | {MEANINGS[name]} |" for name, (low, high) in SCORE_RANGES.items()]
    assert between("scores") == "\n".join(rows) + "\n"


def test_the_table_of_outcomes_names_each() -> None:
    assert re.findall(r"^\| `(\w+)`", between("outcomes"), re.MULTILINE)[1:] == list(OUTCOMES)


def test_the_limits_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| (`APEX_[^|]+`) \|$", PAGE, re.MULTILINE)
    fields = ApiSettings.model_fields
    assert {said: [fields[name].default for name in settings_in(text)] for said, text in rows} == {
        "100 MiB": [100 * 2**20],
        "1 s to 15 min": [1, 15 * 60],
        "10 s": [10],
        "10 min": [10 * 60],
        "30 s": [30],
        "1200 in a minute": [1200],
        "200": [200],
        "50 GiB in a day": [50 * 2**30],
        "24 h of sound": [24 * 60 * 60],
        "50,000": [50_000],
        "as much as is still free": [0.5],
        "kept 7 days": [7 * 24 * 60 * 60],
    }
    assert (MAX_BATCH_FILES, MAX_BATCH_ITEMS) == (20, 10_000)
    assert set(SCORE_TOLERANCES.values()) == {0.2, 0.01}


def settings_in(text: str) -> list[str]:
    return [name.lower() for name in re.findall("APEX_([A-Z_]+)", text)]


def test_the_typescript_examples_type_check(tmp_path: Path, modules: Path) -> None:
    for (section, language), example in EXAMPLES.items():
        if language == "typescript":
            (tmp_path / f"{section.split()[0]}.mts").write_text(example.code)
    (tmp_path / "node_modules").symlink_to(modules)
    options = "--strict --noEmit --skipLibCheck --target es2023 --lib es2023,dom,dom.asynciterable --module nodenext"
    names = sorted(path.name for path in tmp_path.glob("*.mts"))
    tool("tsc", *options.split(), "--types", "node", *names, cwd=tmp_path)
    assert len(names) == 15
