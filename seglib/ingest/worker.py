"""The process that reads files a person gave: `python -m seglib.ingest.worker JOB FOLDER MEMORY`.

Reads `payload.json` in its folder, says how far it is as lines of JSON, and leaves `result.json` or `problem.txt`.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from seglib.data.pairing import Proposal
from seglib.data.planning import ImportRequest, plan_import
from seglib.errors import SeglibError
from seglib.ingest.gathering import Door, gather
from seglib.ingest.isolated import EXIT_DISK_FULL
from seglib.ingest.looking import Preview, look
from seglib.ingest.staging import StagedVolume, Watch, refuse, stage_volumes

_TELL_EVERY_S = 0.1
EXIT_PROBLEM = 2


@dataclass(frozen=True)
class GatherJob:
    """Find the files behind a door; zips are unpacked into `scratch`."""

    door: Door
    scratch: Path


@dataclass(frozen=True)
class StageJob:
    """Write the volumes of items start … stop − 1 of a request to `folder`, under their index."""

    request: ImportRequest
    start: int
    stop: int
    folder: Path


@dataclass(frozen=True)
class StageResult:
    """What was written, and what to tell about it."""

    volumes: tuple[StagedVolume, ...]
    notes: tuple[str, ...]


GATHER, PROPOSAL = TypeAdapter(GatherJob), TypeAdapter(Proposal)
REQUEST, PREVIEW = TypeAdapter(ImportRequest), TypeAdapter(Preview)
STAGE, STAGED = TypeAdapter(StageJob), TypeAdapter(StageResult)


def stage(job: StageJob, watch: Watch) -> StageResult:
    """Plans and writes the volumes of a part of a request. Raises DataError with every problem found."""
    request = replace(job.request, items=job.request.items[job.start : job.stop])
    plan = plan_import(request)
    refuse(plan.problems)
    stacks = [stack for volume in plan.volumes for stack in (volume.image, volume.labels) if stack is not None]
    watch.total = sum(stack.shape_czyx[1] for stack in stacks)
    numbered = [(job.start + index, volume) for index, volume in enumerate(plan.volumes)]
    volumes = stage_volumes(numbered, job.folder, watch)
    watch.step(0, "Finishing")
    return StageResult(tuple(volumes), plan.notes)


def _gather(payload: bytes, watch: Watch) -> bytes:
    job = GATHER.validate_json(payload)
    return PROPOSAL.dump_json(gather(job.door, job.scratch, watch))


def _look(payload: bytes, watch: Watch) -> bytes:
    return PREVIEW.dump_json(look(REQUEST.validate_json(payload), watch))


def _stage(payload: bytes, watch: Watch) -> bytes:
    return STAGED.dump_json(stage(STAGE.validate_json(payload), watch))


JOBS: dict[str, Callable[[bytes, Watch], bytes]] = {"gather": _gather, "look": _look, "stage": _stage}


def main(job: str, folder: Path, memory_bytes: int) -> int:
    """Does one job and returns the exit status."""
    limit_memory(memory_bytes)
    server = os.getppid()
    try:
        # A server that was killed cannot end its workers, so they look whether it is still there.
        watch = Watch(0, _teller(), cancelled=lambda: os.getppid() != server)
        result = JOBS[job]((folder / "payload.json").read_bytes(), watch)
        (folder / "result.json").write_bytes(result)
    except SeglibError as error:
        return _problem(folder, str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return EXIT_DISK_FULL  # a note about it would itself need room
    return 0


def _problem(folder: Path, text: str) -> int:
    (folder / "problem.txt").write_text(text, encoding="utf-8", errors="replace")
    return EXIT_PROBLEM


def _teller() -> Callable[[int, int, str], None]:
    last = 0.0

    def tell(done: int, total: int, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _TELL_EVERY_S:
            last = now
            print(json.dumps([done, total, text]), flush=True)

    return tell


def limit_memory(memory_bytes: int) -> None:
    """Lets allocations beyond the limit fail here, where the system can; the other side watches in any case."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Private memory only: of what a library maps from disk nothing is held.
    kind = getattr(resource, "RLIMIT_DATA", resource.RLIMIT_AS)
    resource.setrlimit(kind, (memory_bytes, memory_bytes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
