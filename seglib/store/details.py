"""What validations and measurements found that is no single number: confusions, thresholds, absent classes."""

import json
from typing import Any, Literal

from seglib.store.database import Store

Place = Literal["val", "volume"]


def add_details(store: Store, run_id: int, place: Place, step: int, content: dict[str, Any]) -> None:
    """Keeps what was found after `step` steps, as JSON, in place of what was there. place: where it was looked at."""
    row = {"run_id": run_id, "step": step, "part": place, "content": json.dumps(content)}
    with store.writing() as db:
        db.table("details").insert(row, pk=("run_id", "step", "part"), replace=True)


def get_details(store: Store, run_id: int, place: Place, step: int | None = None) -> dict[str, Any]:
    """What was found after `step` steps, or last; nothing where nothing was."""
    query = "SELECT content FROM details WHERE run_id = ? AND part = ? AND (? IS NULL OR step = ?) ORDER BY step DESC"
    with store.reading() as db:
        row = db.conn.execute(f"{query} LIMIT 1", [run_id, place, step, step]).fetchone()
    return dict(json.loads(row[0])) if row else {}
