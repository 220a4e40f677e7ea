"""A target whose fork server leaves the network, as that of `model.audio.decoder_child` does."""

import os
from typing import Any

from model.audio.decoder_child import prepare
from model.audio.sandbox.layers import LAYERS, ResourceLimits

__all__ = ["prepare"]


def where(_: dict[str, Any]) -> dict[str, Any]:
    """The child's network namespace, before it enters that layer and after."""
    before = os.readlink("/proc/self/ns/net")
    LAYERS["network"](ResourceLimits(1, 1, 1))
    return {"before": before, "after": os.readlink("/proc/self/ns/net")}
