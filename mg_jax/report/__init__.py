"""Compares runs: on a page (`write.py`) and on a terminal (`compare.py`)."""
