"""Commands of `python -m seglib` that have much to say."""
