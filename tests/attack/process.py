"""`python -m tests.attack.process`: a scoring process with the real decoder and its sandbox, and a scripted scorer."""

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from app.core.settings import WorkerSettings
from model.audio.decoder import Decoder
from tests.chaos.process import ScriptedScorer, ScriptedTrack
from tests.chaos.scripted import Script
from worker.process import open_decoder, serve

#: For the supervisor.
COMMAND = (sys.executable, "-m", "tests.attack.process")


class SandboxedDecoder:
    """Decodes each file as a worker does; then hands over the file itself, which says what its run shall do."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.layers, self.missing_layers = decoder.layers, decoder.missing_layers
        self.check_works = decoder.check_works

    @contextmanager
    def decode(self, file: BinaryIO) -> Iterator[ScriptedTrack]:
        with self._decoder.decode(file):
            yield ScriptedTrack(playable(file.read()))


def playable(track: bytes) -> bytes:
    """The track, or another in the place of one whose script was damaged on its way here, which is no fault."""
    try:
        Script.of(track)
    except (ValueError, TypeError, LookupError, struct.error):
        return Script("damaged").track()
    return track


@contextmanager
def decoding(settings: WorkerSettings) -> Iterator[Decoder]:
    with open_decoder(settings) as decoder:
        yield cast(Decoder, SandboxedDecoder(decoder))


if __name__ == "__main__":
    serve(lambda _settings: ScriptedScorer(), decoding)
