"""One file for each architecture, or family of them. docs/models.md shows how to add one."""
