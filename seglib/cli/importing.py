"""`python -m seglib import`: the doors of the dashboard, with the same options."""

import argparse
import fnmatch
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from seglib.data.checks import values_text
from seglib.data.pairing import Item
from seglib.data.planning import likely_labels
from seglib.data.volumes import voxel_text
from seglib.errors import ConfigError, DataError
from seglib.store import Store
from seglib.workspace import Workspace

if TYPE_CHECKING:
    from seglib.ingest import ImportRequest, Preview, Proposal

Progress = Callable[[int, int, str], None]
BAD_INPUT = 2
LISTED = 100


def add_import(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument(
        "images",
        help="a file, a zip, a .txt list of 2D images, a .json tile list, or a folder (of images, or with images/ and "
        "labels/, X_raw_data/ and X_masks/, or imagesTr/ and labelsTr/ in it)",
    )
    command.add_argument("--labels", help="a file or folder of labels, where the first one does not hold them")
    command.add_argument("--name", help="of the data set (default: the folder's or file's)")
    command.add_argument(
        "--voxel-size", nargs=3, type=float, metavar=("Z", "Y", "X"), help="in nm (default: what the files say)"
    )
    command.add_argument("--labels-are", choices=("auto", "classes", "instances"), default="auto")
    command.add_argument("--files-are", choices=("auto", "sections", "volumes"), default="auto")
    command.add_argument("--axes", default="", help="a letter for each stored dimension, such as ZCYX (default: guess)")
    command.add_argument("--label-axes", default="", help="the same for the labels")
    command.add_argument("--array", default="", help="which array inside HDF5, Zarr or npz files")
    command.add_argument("--label-array", default="", help="the same for the labels, which may lie in the image files")
    command.add_argument("--class", action="append", default=[], metavar="VALUE=NAME", dest="classes", type=_named)
    command.add_argument("--ignore", action="append", default=[], type=int, metavar="VALUE", help="not annotated")
    command.add_argument("--unpaired", action="store_true", help="import images without labels, leave out labels alone")
    command.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="leave out images of such a name, as in bad_*"
    )
    command.add_argument("--again", action="store_true", help="import files though they were imported before")
    command.add_argument("--dry-run", action="store_true", help="only say what would become of the files")


def run_import(parsed: argparse.Namespace, workspace: Workspace, store: Store, progress: Progress) -> int:
    """Imports, or says what would be, and returns the exit status. Raises SeglibError where it cannot."""
    from seglib.ingest import Desk, Door, already_imported, import_dataset

    door = Door(path=parsed.images, labels_path=parsed.labels or "", confined=False)
    with Desk(workspace) as desk:
        proposal = desk.find(door, progress=progress)
        for text in proposal.notes:
            print(text)
        request = _request(parsed, proposal)
        preview = desk.look(request, progress=progress)
        if not request.label_member and not any(item.labels for item in request.items):
            request = _with_labels_within(parsed, request, preview)
            preview = desk.look(request, progress=progress) if request.label_member else preview
        twin = already_imported(store, preview)
        if twin and not parsed.again:
            raise DataError(f"The same files were imported before, as {twin}. Say --again to import them once more.")
        if parsed.dry_run:
            return _show_plan(preview)
        dataset = import_dataset(workspace, store, request, progress=progress, note=print)
    _tell_missing(parsed, store, dataset)
    print(f"\rData set {dataset}: {request.name}")
    return 0


def _with_labels_within(parsed: argparse.Namespace, request: "ImportRequest", preview: "Preview") -> "ImportRequest":
    """Where the image files hold several arrays and one is called like labels, that one is taken, as on the page."""
    members = preview.image.members if preview.image else ()
    name = likely_labels([member.name for member in members if member.name != parsed.array])
    if not name or len(members) < 2 or parsed.unpaired:
        return request
    print(f"Labels are taken from the array {name}; --label-array names another, --unpaired takes none.")
    return replace(request, label_member=name)


def _tell_missing(parsed: argparse.Namespace, store: Store, dataset: int) -> None:
    """Says which of the values named do not occur."""
    from seglib.store.datasets import get_summary

    counts = get_summary(store, dataset).label_counts
    named = [value for value, _ in parsed.classes] + list(parsed.ignore)
    absent = [value for value in named if counts is not None and value not in counts]
    if counts is not None and absent:
        found = values_text(sorted(counts))
        print(f"No voxel has the value {values_text(absent)}; those there are: {found}.")


def _request(parsed: argparse.Namespace, proposal: "Proposal") -> "ImportRequest":
    """What the options make of a proposal. Raises DataError where labels have no image, or some images no labels."""
    from seglib.data.planning import Layout
    from seglib.ingest import ImportRequest

    kept = [item for item in proposal.items if not _left_out(item, parsed.exclude)]
    labelled = [bool(item.labels) for item in kept]
    if not parsed.unpaired and (proposal.unused or (any(labelled) and not all(labelled))):
        raise DataError(
            f"{labelled.count(False)} of {len(labelled)} images have no labels, and {len(proposal.unused)} label files "
            "have no image. Rename or complete the files, or say --unpaired to import them so.\n"
            + "\n".join(proposal.notes)
        )
    named = [value for value, _ in parsed.classes]
    if twice := sorted({value for value in named if named.count(value) > 1}):
        raise ConfigError(f"--class names the value {twice[0]} more than once.")
    if not kept:
        raise DataError("Nothing is left to import: --exclude fits every image.")
    layout: Layout = "volumes" if proposal.separate and parsed.files_are == "auto" else parsed.files_are
    return ImportRequest(
        name=parsed.name or proposal.name or "My data",
        items=tuple(kept),
        layout=layout,
        voxel_size_nm=tuple(parsed.voxel_size) if parsed.voxel_size else None,
        axes=parsed.axes,
        label_axes=parsed.label_axes,
        member=parsed.array,
        label_member=parsed.label_array,
        label_kind=parsed.labels_are,
        class_names={**proposal.class_names, **dict(parsed.classes)},
        ignore=(*proposal.ignore, *parsed.ignore),
        channel_names=proposal.channel_names,
    )


def _left_out(item: Item, patterns: Sequence[str]) -> bool:
    """Whether an item's name, or that of one of its images, fits a pattern."""
    names = [item.name, *(source.name for source in item.images)]
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _named(text: str) -> tuple[int, str]:
    value, _, name = text.partition("=")
    if not value.isdecimal() or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not VALUE=NAME, such as 1=nucleus")
    return int(value), name.strip()


def _show_plan(preview: "Preview") -> int:
    for stored, what in ((preview.image, "images"), (preview.labels, "labels")):
        if stored is not None:
            shape = " × ".join(map(str, stored.shape))
            print(f"{what}: {shape} {stored.dtype}, axes {stored.axes}{'' if stored.known else ' (guessed)'}")
            print("".join(f"  array {m.name}  {m.shape}  {m.dtype}\n" for m in stored.members), end="")
    for volume in preview.volumes[:LISTED]:
        shape = " × ".join(map(str, volume.shape_czyx))
        voxel = voxel_text(volume.voxel_size_nm)
        files = f"{volume.image_files} image and {volume.label_files} label files"
        print(f"{volume.name}: {shape} {volume.dtype} (C × Z × Y × X), {voxel} nm, {files}")
    if len(preview.volumes) > LISTED or preview.looked_at < preview.items:
        print(f"… {preview.items:,} in all")
    if preview.label_values:
        print(f"Label values in {preview.pictured}: {values_text(preview.label_values)}")
    for text in preview.notes:
        print(text)
    for text in preview.problems:
        print(f"seglib: {text}", file=sys.stderr)
    return BAD_INPUT if preview.problems else 0
