"""Owners can be told dead from alive, in any process."""

import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from seglib.jobs import lease
from seglib.jobs.lease import FOREIGN_SILENCE_S, is_dead, new_owner


def test_this_process_is_alive_however_old_its_heartbeat():
    assert not is_dead(new_owner(), 0.0)


def test_two_owners_of_one_process_differ():
    assert new_owner() != new_owner()


def test_an_owner_names_host_process_and_its_start():
    host, pid, started, _ = new_owner().split("|")
    assert (host, int(pid)) == (socket.gethostname(), os.getpid())
    assert float(started) == pytest.approx(psutil.Process().create_time(), abs=0.01)


def test_a_process_that_ended_is_dead_however_fresh_its_heartbeat():
    code = "from seglib.jobs.lease import new_owner; print(new_owner())"
    owner = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert is_dead(owner, time.time())


def test_a_process_id_that_is_used_again_is_not_the_owner():
    started = psutil.Process().create_time()
    assert is_dead(f"{socket.gethostname()}|{os.getpid()}|{started - 60:.2f}|x", time.time())


def test_on_another_host_only_silence_tells():
    now = time.time()
    assert not is_dead("elsewhere|1|1.00|x", now - FOREIGN_SILENCE_S / 2)
    assert is_dead("elsewhere|1|1.00|x", now - FOREIGN_SILENCE_S * 2)


def test_a_host_name_with_bars_is_read_from_the_right(monkeypatch):
    monkeypatch.setattr(lease.socket, "gethostname", lambda: "odd|name")
    assert not is_dead(new_owner(), 0.0)
