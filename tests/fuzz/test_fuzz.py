"""A slice of the fuzzing campaign: nothing crashes, nothing is slow, and the same file gets the same answer."""

from collections.abc import Iterator
from random import Random

import pytest

from model.audio.decode_errors import DECODE_ERRORS
from model.audio.decoder import Decoder
from tests.fuzz import campaign
from tests.fuzz.mutations import MUTATIONS, Mutation

N_FILES = 400
SEED = 7


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    with campaign.decoder(tmp_path_factory.mktemp("scratch")) as decoder:
        yield decoder


def test_mutated_files_of_every_format_do_no_harm(decoder: Decoder) -> None:
    *_, (n_done, tally) = campaign.run(decoder, seed=SEED, n_files=N_FILES, n_threads=4)
    assert tally.findings == []
    assert n_done == tally.outcomes.total() == N_FILES
    assert tally.n_repeated == N_FILES / campaign.REPEAT_EVERY
    assert (
        {campaign.SCORED, "broken", "truncated", "container"}
        <= set(tally.outcomes)
        <= {campaign.SCORED, *DECODE_ERRORS}
    )


def test_a_file_that_was_slow_on_a_busy_machine_is_no_finding(decoder: Decoder) -> None:
    tally = campaign.Tally()
    tally.add(0, campaign.Outcome(campaign.SLOW, 3.0), repeated=False)
    campaign.settle(decoder, SEED, tally)
    assert tally.findings == []
    assert (+tally.outcomes).total() == 1
    assert campaign.SLOW not in +tally.outcomes


def test_every_seed_is_understood_before_it_is_broken(decoder: Decoder) -> None:
    names = [campaign.decode(decoder, data).name for data in campaign.seeds()]
    assert names.count(campaign.SCORED) >= 60
    assert set(names) == {campaign.SCORED, "codec", "silent"}


def test_the_same_two_numbers_make_the_same_file() -> None:
    files = [campaign.file_of(SEED, index) for index in range(20)]
    assert files == [campaign.file_of(SEED, index) for index in range(20)]
    assert len(set(files)) == 20


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_changes_some_file_and_fails_on_none(mutation: Mutation) -> None:
    for original in (b"", b"x", bytes(range(256)) * 8):
        changed = {_applied(mutation, original, Random(seed)) for seed in range(200)}
    assert len(changed) > 20


def _applied(mutation: Mutation, original: bytes, rng: Random) -> bytes:
    data = bytearray(original)
    mutation(data, bytes(reversed(range(256))) * 4, rng)
    return bytes(data)


def test_a_harmful_file_is_a_finding() -> None:
    tally = campaign.Tally()
    for index, name in enumerate(("crash", "time", campaign.SLOW, campaign.UNSTABLE, campaign.MACHINE, "broken")):
        tally.add(index, campaign.Outcome(name, 0.1), repeated=False)
    assert [index for index, _ in tally.findings] == [0, 1, 2, 3, 4]
