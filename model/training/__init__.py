"""Training and evaluation of heads: labels, embeddings, runs, metrics."""
