"""Files become a data set of the workspace: all of it, or nothing.

What is done to a person's files is done in processes of their own (isolated.py): finding them (gathering.py), looking
at them (looking.py), and writing them as volumes (staging.py). Only when the last voxel is written are the volumes
moved to where they stay and the rows made, in one transaction (importing.py).
"""

from seglib.data.pairing import Item, Proposal
from seglib.data.planning import ImportRequest
from seglib.ingest.demo import make_demo
from seglib.ingest.gathering import Door
from seglib.ingest.importing import Desk, already_imported, import_dataset, import_images
from seglib.ingest.looking import Preview
from seglib.ingest.making import make_dataset, make_files

__all__ = [
    "Desk",
    "Door",
    "ImportRequest",
    "Item",
    "Preview",
    "Proposal",
    "already_imported",
    "import_dataset",
    "import_images",
    "make_dataset",
    "make_demo",
    "make_files",
]
