"""Runs, data sets and metrics in SQLite. All SQL of the project is in this folder; it knows no torch."""

from seglib.store.database import Store, open_store

__all__ = ["Store", "open_store"]
