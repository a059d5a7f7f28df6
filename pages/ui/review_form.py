"""What the chosen files would become: pairing, axes and meaning, shown and changeable before anything is stored."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from pages.ui.frame import plain, sizes
from seglib.data.checks import values_text
from seglib.data.pairing import Item, Proposal
from seglib.data.planning import ImportRequest, likely_labels
from seglib.data.readers import SourceFile
from seglib.data.volumes import voxel_text
from seglib.ingest import Preview
from seglib.ingest.looking import StoredArray

LABEL_KINDS = {
    "auto": "Find out",
    "classes": "Classes (each value is a kind of thing)",
    "instances": "Instances (each value is one object)",
}
LAYOUTS = {"auto": "Find out", "sections": "Sections of one volume", "volumes": "Separate volumes or 2D images"}
NONE = "– none –"
MOST_EDITED = 1000


def ask_request(key: str, proposal: Proposal, preview: Preview | None) -> ImportRequest:
    """Draws the questions and returns what the person asks for now. key: names the widgets."""
    items = _pairing(key, proposal)
    name = st.text_input("Name of the data set", proposal.name[:200] or "My data", key=f"{key}.name", max_chars=200)
    left, right = st.columns(2)
    layout = left.selectbox(
        "Image files are", list(LAYOUTS), index=2 if proposal.separate else 0, format_func=LAYOUTS.__getitem__,
        key=f"{key}.layout", help="Flat images of one size whose names are a series are taken as the sections of one "
        "volume (of one for each group) unless you say otherwise.",
    )  # fmt: skip
    label_kind = right.selectbox(
        "Labels are", list(LABEL_KINDS), format_func=LABEL_KINDS.__getitem__, key=f"{key}.kind",
        help="Classes: 1 is a nucleus, 2 a vessel. Instances: 1 is the first nucleus, 2 the second. You can change "
        "this, and what each value means, at any time after the import.",
    )  # fmt: skip
    within = ""
    left, right = st.columns(2)
    with left:
        axes, member = _stored(f"{key}.image", "Images", preview.image if preview else None)
    with right:
        if preview and preview.image and preview.image.members and not any(item.labels for item in items):
            within = _labels_within(key, preview.image)
        label_axes, label_member = _stored(f"{key}.label", "Labels", preview.labels if preview and not within else None)
    return ImportRequest(
        name=name.strip(),
        items=items,
        layout=layout,
        voxel_size_nm=_voxel_size(key, preview),
        axes=axes,
        label_axes=label_axes,
        member=member,
        label_member=within or label_member,
        label_kind=label_kind,
        class_names=proposal.class_names,
        ignore=proposal.ignore,
        channel_names=proposal.channel_names,
    )


def _pairing(key: str, proposal: Proposal) -> tuple[Item, ...]:
    """The table of volumes and their labels, with what the person changed in it."""
    if proposal.convention:
        st.write(f":material/account_tree: Recognised: {plain(proposal.convention)}")
    for note in proposal.notes:
        st.info(plain(note), icon=":material/info:")
    labels = _label_files(proposal)
    names = _distinct(labels)
    paired = sum(bool(item.labels) for item in proposal.items)
    st.markdown(
        f"**{_counted(len(proposal.items), 'image')}, {paired:,} with labels**",
        help="Which labels belong to which image. Change the pairs, rename volumes, group those that must stay "
        "together when data are split, or leave some out.",
    )
    if len(proposal.items) > MOST_EDITED:
        st.dataframe(_table(proposal.items[:MOST_EDITED], names), hide_index=True, height=250)
        st.caption(f"The first {MOST_EDITED:,} are shown. So many pairs are corrected by renaming the files.")
        return proposal.items
    table = _table(proposal.items, names)
    edited = st.data_editor(
        table,
        hide_index=True,
        height=min(38 + 35 * len(proposal.items), 290),
        disabled=["Image"],
        key=f"{key}.pairs",
        column_config={
            "Import": st.column_config.CheckboxColumn(width="small"),
            "Image": st.column_config.TextColumn(width="medium"),
            "Labels": st.column_config.SelectboxColumn(
                options=list(dict.fromkeys([NONE, *names.values(), *table["Labels"]])), required=True, width="medium"
            ),
            "Volume": st.column_config.TextColumn(required=True, max_chars=200, width="medium"),
            "Group": st.column_config.TextColumn(
                max_chars=200, help="Volumes of one group are never split between training and validation."
            ),
        },
    )
    by_name = {name: source for source, name in names.items()}
    chosen = [name for name in edited["Labels"][edited["Import"]] if name in by_name]
    if twice := sorted({name for name in chosen if chosen.count(name) > 1}):
        st.warning(f"Chosen for more than one image: {plain(', '.join(twice[:5]))}", icon=":material/warning:")
    return tuple(
        _corrected(item, row, by_name)
        for item, row in zip(proposal.items, edited.to_dict("records"), strict=True)
        if row["Import"]
    )


def _label_files(proposal: Proposal) -> list[SourceFile]:
    return [source for item in proposal.items for source in item.labels] + list(proposal.unused)


def _distinct(sources: Sequence[SourceFile]) -> dict[SourceFile, str]:
    """A name for each label file, made different where two are called the same."""
    named: dict[SourceFile, str] = {}
    used: set[str] = set()
    for source in sources:
        name, number = source.name, 2
        while name in used:
            name, number = f"{source.name} ({number})", number + 1
        used.add(name)
        named[source] = name
    return named


def _table(items: Sequence[Item], names: dict[SourceFile, str]) -> pd.DataFrame:
    def files(sources: Sequence[SourceFile]) -> str:
        if len(sources) == 1:
            return sources[0].name
        return f"{sources[0].name} … ({len(sources)} files)" if sources else NONE

    return pd.DataFrame(
        {
            "Import": [True] * len(items),
            "Image": [files(item.images) for item in items],
            "Labels": [names[item.labels[0]] if len(item.labels) == 1 else files(item.labels) for item in items],
            "Volume": [item.name for item in items],
            "Group": [item.group for item in items],
        }
    )


def _corrected(item: Item, row: dict[str, str], by_name: dict[str, SourceFile]) -> Item:
    labels = item.labels
    if row["Labels"] == NONE:
        labels = ()
    elif row["Labels"] in by_name:
        labels = (by_name[row["Labels"]],)
    return replace(item, labels=labels, name=row["Volume"].strip() or item.name, group=(row["Group"] or "").strip())


def _stored(key: str, what: str, stored: StoredArray | None) -> tuple[str, str]:
    """How the files store their numbers: axis order and, where there are several arrays, which one."""
    if stored is None:
        return "", ""
    member = ""
    if len(stored.members) > 1:
        sizes_of = {found.name: f"{found.name} ({sizes(found.shape)}, {found.dtype})" for found in stored.members}
        member = st.selectbox(
            f"{what}: array inside the files", ["", *sizes_of], key=f"{key}.member",
            format_func=lambda name: sizes_of.get(name, "The usual one"),
        )  # fmt: skip
    source = "the files say so" if stored.known else "a guess: the files do not say"
    axes = st.text_input(
        f"{what}: axis order of {sizes(stored.shape)}",
        stored.axes,
        key=f"{key}.axes.{member}.{len(stored.shape)}",
        max_chars=6,
        help=f"One letter for each stored dimension: C channels, Z planes, Y rows, X columns, T time points. "
        f"{stored.axes} is {source}.",
    )
    axes = axes.strip().upper()
    return ("" if axes == stored.axes else axes), member


def _labels_within(key: str, stored: StoredArray) -> str:
    """Which array of the image files themselves holds the labels; empty for none."""
    names = [member.name for member in stored.members]
    likely = likely_labels(names)
    return st.selectbox(
        "Labels: array inside the same files", ["", *names], index=names.index(likely) + 1 if likely else 0,
        format_func=lambda name: name or NONE, key=f"{key}.within",
    )  # fmt: skip


def _voxel_size(key: str, preview: Preview | None) -> tuple[float, float, float] | None:
    """The voxel size the person gives, None to take what the files say."""
    found = preview.volumes[0].voxel_size_nm if preview and preview.volumes else None
    said = f" ({found[0]:g}, {found[1]:g}, {found[2]:g})" if found else ""
    own = st.toggle(
        "Set the voxel size myself", key=f"{key}.own_voxel",
        help=f"Otherwise what each file says is taken{said}; 1 nm where it says nothing.",
    )  # fmt: skip
    if not own:
        return None
    st.caption("Distance between neighbouring voxels in nm: z between planes, y and x within a plane.")
    start = found or (1.0, 1.0, 1.0)
    z, y, x = (
        column.number_input(axis, 0.001, 1e9, float(size), format="%g", key=f"{key}.voxel.{axis}")
        for axis, column, size in zip("zyx", st.columns(3), start, strict=True)
    )
    return z, y, x


def show_preview(preview: Preview, twin: str | None) -> None:
    """Draws what an import would make. twin: name of a data set made of the same files."""
    if twin:
        st.warning(f"The same files were imported before, as {plain(twin)}.", icon=":material/content_copy:")
    if preview.picture:
        values = values_text(preview.label_values)
        shown = f"with its labels: values {values}" if values else "without labels"
        st.image(preview.picture, caption=f"{plain(preview.pictured)}, {shown}")
    if preview.volumes:
        _future_volumes(preview)
    for note in preview.notes[:8]:
        st.info(plain(note), icon=":material/info:")
    if len(preview.notes) > 8:
        with st.expander(f"{len(preview.notes) - 8} more notes"):
            st.text("\n".join(preview.notes[8:]))


def _future_volumes(preview: Preview) -> None:
    st.markdown(f"**Would become {_count(preview)}**")
    st.dataframe(
        pd.DataFrame(
            {
                "Volume": [volume.name for volume in preview.volumes],
                "Size z × y × x": [sizes(volume.shape_czyx[1:]) for volume in preview.volumes],
                "Channels": [volume.shape_czyx[0] for volume in preview.volumes],
                "Type": [volume.dtype for volume in preview.volumes],
                "Voxel z, y, x (nm)": [voxel_text(v.voxel_size_nm) for v in preview.volumes],
                "Files": [_files(volume.image_files, volume.label_files) for volume in preview.volumes],
            }
        ),
        hide_index=True,
        height=min(38 + 35 * max(1, len(preview.volumes)), 250),
    )


def _count(preview: Preview) -> str:
    count = len(preview.volumes)
    if preview.looked_at < preview.items:
        return f"about {preview.items:,} volumes ({preview.looked_at} of them were looked at)"
    return _counted(count, "volume")


def _files(images: int, labels: int) -> str:
    return f"{_counted(images, 'image')}, {_counted(labels, 'label file') if labels else 'no labels'}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
