"""Embeddings to frames: the normative integer network and the ways to compute it."""
