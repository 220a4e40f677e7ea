"""A made-up catalogue to try commands with, and what scoring a large one costs beside decoding and the model."""
