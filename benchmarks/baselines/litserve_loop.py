"""`python -m benchmarks.baselines.litserve_loop PORT WEIGHTS DEVICE`: LitServe around the reference's loop."""

import base64
import sys
import tempfile
from pathlib import Path

import litserve
import torch
from fastapi import Request

from benchmarks.baselines.reference_loop import Loop
from model.processors import usable_cores


class ApexApi(litserve.LitAPI):  # type: ignore[misc]  # untyped
    """Decoding, model and answer in the one process that LitServe runs per device."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        torch.set_num_threads(usable_cores())
        self.loop = Loop(Path(sys.argv[2]), device=sys.argv[3])

    def decode_request(self, request: Request) -> bytes:
        return base64.b64decode(request["content"])

    def predict(self, content: bytes) -> dict[str, float]:
        with tempfile.NamedTemporaryFile(suffix=".audio") as file:
            file.write(content)
            file.flush()
            return self.loop.scores(Path(file.name))

    def encode_response(self, scores: dict[str, float]) -> dict[str, float]:
        return scores


if __name__ == "__main__":
    server = litserve.LitServer(ApexApi(), accelerator=sys.argv[3], devices=1, timeout=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
