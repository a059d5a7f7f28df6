"""Networks of our own, and what wraps others."""
