"""Weights in and out: published files and our own checkpoints, by PySlowFast's names."""
