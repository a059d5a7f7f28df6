"""Who runs a run: an owner that can be checked for life from any process."""

import os
import socket
import time
import uuid

import psutil

FOREIGN_SILENCE_S = 60.0
SAME_START_S = 1.0


def new_owner() -> str:
    """A name for whoever runs runs in this process: host, process id, its start time, and a random part."""
    started = psutil.Process().create_time()
    return f"{socket.gethostname()}|{os.getpid()}|{started:.2f}|{uuid.uuid4().hex[:8]}"


def is_dead(owner: str, heartbeat_at: float) -> bool:
    """True where nobody can be running it any more.

    On this host the process is looked up, by id and start time, as ids are used again. On another host only
    silence can tell.
    """
    host, pid, started, _ = owner.rsplit("|", 3)
    if host != socket.gethostname():
        return time.time() - heartbeat_at > FOREIGN_SILENCE_S
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) > SAME_START_S
    except psutil.NoSuchProcess:
        return True
