"""The server: Streamlit's pages, the routes behind the viewer, the guards in front, and the job queue."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from seglib.jobs.manager import JobManager, import_heavy_parts
from seglib.serving.metrics import metric_routes
from seglib.serving.routes import SecurityHeaders, file_routes, host_check, plane_routes
from seglib.serving.uploads import upload_routes
from seglib.store import open_store
from seglib.workspace import open_workspace

WARM_UP_AFTER_S = 4.0
workspace = open_workspace()
store = open_store(workspace)


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[dict[str, Any]]:
    """Starts the job queue with the server and, when the server ends, lets active runs save."""
    workspace.sweep_scratch()
    # Uploads nobody came back for may be very many files.
    threading.Thread(target=workspace.sweep_uploads, daemon=True).start()
    manager = JobManager(workspace, store)
    manager.start()
    # Pages come first; torch is imported once they had time to open.
    warm_up = threading.Timer(WARM_UP_AFTER_S, import_heavy_parts)
    warm_up.daemon = True
    warm_up.start()
    try:
        yield {}
    finally:
        warm_up.cancel()
        manager.close()


app = st.App(
    "pages/shell.py",
    lifespan=lifespan,
    routes=[*plane_routes(workspace, store), *file_routes(workspace), *metric_routes(store), *upload_routes(workspace)],
    middleware=[host_check(), Middleware(SecurityHeaders)],
)

if __name__ == "__main__":
    app.run()
