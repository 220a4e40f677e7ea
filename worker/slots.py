"""How many scoring processes one machine gets, and the device of each."""

import logging
from collections.abc import Sequence

from app.core.settings import AUTO, WorkerSettings
from model.inference.cards import Card, cards
from model.processors import usable_cores

log = logging.getLogger(__name__)

#: Of a card, for one process: its CUDA context, the network in the fast precision and in fp32, and a batch.
SLOT_BYTES = 6 << 30


def slots(settings: WorkerSettings) -> list[str]:
    """A device for each process: as many as the settings say, or as this machine can use."""
    if settings.workers != AUTO:
        return [settings.device] * settings.workers
    there = [] if settings.device == "cpu" else chosen(settings.device, cards())
    if not there:
        return [settings.device]
    devices = on_cards(there, usable_cores())
    log.info(
        "%d scoring processes: one for each core, which decodes, as far as %d GiB each fit on %d CUDA devices",
        len(devices),
        SLOT_BYTES >> 30,
        len(there),
    )
    return devices


def chosen(device: str, there: Sequence[Card]) -> list[Card]:
    """The cards that a setting names: all for "auto"."""
    first = "cuda:0" if device == "cuda" else device
    return [card for card in there if device == AUTO or card.device == first]


def on_cards(there: Sequence[Card], n_cores: int) -> list[str]:
    """A process for each core, because decoding a track takes one and is what limits a card; fewer if memory is short.

    The processes are spread over the cards evenly, and each card takes one at least.
    """
    room = {card.device: max(1, card.free_bytes // SLOT_BYTES) for card in there}
    in_turn = [device for turn in range(max(room.values())) for device in room if turn < room[device]]
    return in_turn[: max(n_cores, len(there))]
