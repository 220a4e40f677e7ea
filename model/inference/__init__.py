"""Inference: segments in, seven scores out, on the engine that suits the device."""
