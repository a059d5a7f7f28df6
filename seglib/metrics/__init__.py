"""Scores from label arrays."""
