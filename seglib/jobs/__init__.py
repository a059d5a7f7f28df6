"""Runs a task somewhere, and keeps the store told."""
