"""The synthetic demo data set."""

from collections import Counter

from seglib.config.labels import LabelScheme
from seglib.data.synthetic import demo_volumes
from seglib.ingest.importing import commit
from seglib.ingest.making import write_volume
from seglib.store import Store
from seglib.training.advice import DEMO_NAME
from seglib.workspace import Workspace

_VOXEL_NM = (400.0, 200.0, 200.0)


def make_demo(workspace: Workspace, store: Store, *, seed: int = 0) -> int:
    """Makes the data set “Demo cells” (four volumes with instances) and returns its id."""
    with workspace.scratch() as scratch:
        volumes = [
            write_volume(
                scratch,
                index,
                name=f"{DEMO_NAME} {index + 1}",
                image_zyx=image_zyx,
                ids_zyx=labels_zyx,
                voxel_size_nm=_VOXEL_NM,
            )
            for index, (image_zyx, labels_zyx) in enumerate(demo_volumes(seed=seed))
        ]
        counts: Counter[int] = Counter()
        for volume in volumes:
            counts.update(volume.row.label_counts or {})
        labels = LabelScheme(kind="instances")
        return commit(workspace, store, scratch, name=DEMO_NAME, labels=labels, counts=dict(counts), volumes=volumes)
