"""Compares runs on a page for people; see `write.py`."""
