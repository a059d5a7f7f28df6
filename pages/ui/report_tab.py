"""The report of a data set: made in the background, then what will hurt, a table, and the numbers of one volume."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.ui.background import Background, show_work, start_work
from pages.ui.frame import plain, services, sizes
from seglib.config.labels import IGNORE, LabelScheme
from seglib.data.report.finding import Finding
from seglib.data.report.measure import LabelFacts, VolumeFacts
from seglib.data.report.objects import ObjectFacts
from seglib.data.volumes import voxel_text
from seglib.jobs.importing import Cancelled, Progress
from seglib.report import DatasetReport, class_name, findings_of, make_report, stored_report
from seglib.store.datasets import DatasetSummary, get_dataset

NAMED = 20


def report_tab(dataset: DatasetSummary) -> None:
    """Draws the report, or what makes it."""
    key = f"report.{dataset.id}"
    state: Background = st.session_state.setdefault(f"{key}.state", Background())
    workspace, row = services().workspace, get_dataset(services().store, dataset.id)
    report = stored_report(workspace, row)
    if report is None:
        st.write(
            "Reads every voxel once and tells what is in the data and what in it will hurt: saturated or broken "
            "images, instrument bars, labels beside the image, rare classes, objects too small or too large, twins."
        )
    label = "Measure again" if report else "Check the data"
    if st.button(label, icon=":material/troubleshoot:", disabled=state.work is not None, key=f"{key}.go"):

        def work(progress: Progress, cancelled: Cancelled) -> DatasetReport:
            return make_report(workspace, row, progress=progress, cancelled=cancelled)

        start_work(state, work, lambda result: None)
    show_work(state, key=key, unit="plane")
    if report is None:
        return
    st.caption("Parts and patches are those of the suggested settings. The Train page tells of the settings there.")
    show_findings(findings_of(report, row))
    height = min(38 + 35 * len(report.volumes), 290)
    st.dataframe(_table(report.volumes), hide_index=True, height=height)
    _one(report, dataset.labels, key)


def show_findings(findings: Sequence[Finding], *, nothing: str = "Nothing stands out.") -> None:
    """Each finding as a box, with the volumes it is of. nothing: said where there is none."""
    if not findings and nothing:
        st.success(nothing, icon=":material/check_circle:")
    for finding in findings:
        names = ", ".join(plain(name) for name in finding.volumes[:NAMED])
        more = f" and {len(finding.volumes) - NAMED:,} more" if len(finding.volumes) > NAMED else ""
        text = plain(finding.text) + (f"  \n{names}{more}" if names else "")
        if finding.kind == "warning":
            st.warning(text, icon=":material/warning:")
        else:
            st.info(text, icon=":material/info:")


def _table(volumes: Sequence[VolumeFacts]) -> pd.DataFrame:
    rows = []
    for facts in volumes:
        grey = facts.grey[0]
        row: dict[str, object] = {
            "Volume": facts.name,
            "Size z × y × x (voxels)": sizes(facts.shape),
            "Type": facts.dtype,
            "Voxel z, y, x (nm)": voxel_text(facts.voxel_size_nm),
            "Deep : wide": round(facts.anisotropy, 2),
            "Grey values": f"{grey.low:g} to {grey.high:g}",
            "Stuck black (%)": round(100 * grey.black, 3),
            "Stuck white (%)": round(100 * grey.white, 3),
        }
        if facts.labels:
            row["Labelled (%)"] = round(100 * facts.labels.labelled / max(1, _annotated(facts.labels)), 3)
            if facts.labels.objects:
                row["Objects"] = facts.labels.objects.count
                row["Median diameter (nm)"] = round(facts.labels.objects.diameters_nm[1], 1)
        rows.append(row)
    return pd.DataFrame(rows)


def _annotated(labels: LabelFacts) -> int:
    return sum(count for value, count in labels.counts.items() if value != IGNORE)


def _one(report: DatasetReport, labels: LabelScheme, key: str) -> None:
    """Histograms of the volume that is picked."""
    names = [facts.name for facts in report.volumes]
    index = st.selectbox("Volume", range(len(names)), format_func=names.__getitem__, key=f"{key}.volume")
    facts = report.volumes[index]
    grey, sizes_or_classes, planes = st.columns(3)
    with grey:
        counts = facts.grey[0].counts
        places = _centres(facts.grey[0].low, facts.grey[0].high, counts)
        _histogram("Grey values", places, counts, axis="grey value", unit="voxels", key=f"{key}.grey")
    if facts.labels is None:
        return
    with sizes_or_classes:
        if facts.labels.objects and facts.labels.objects.count:
            _object_sizes(facts.labels.objects, key)
        else:
            _class_shares(facts.labels, labels, key)
    with planes:
        shares = [100 * share for share in facts.labels.planes]
        numbers = list(range(1, len(shares) + 1))
        _histogram("Labelled, by plane", numbers, shares, axis="plane", unit="% labelled", key=f"{key}.planes")


def _object_sizes(objects: ObjectFacts, key: str) -> None:
    ratio = (objects.largest_nm / objects.smallest_nm) ** (1 / len(objects.counts)) if objects.smallest_nm else 1.0
    places = [objects.smallest_nm * ratio ** (place + 0.5) for place in range(len(objects.counts))]
    axis = "diameter of a ball of that size (nm)"
    _histogram("Object sizes", places, objects.counts, axis=axis, unit="objects", key=f"{key}.objects")


def _class_shares(facts: LabelFacts, labels: LabelScheme, key: str) -> None:
    shares = {
        class_name(labels, value): 100 * count / max(1, _annotated(facts))
        for value, count in sorted(facts.counts.items())
        if value not in (0, IGNORE)
    }
    names, values = list(shares), list(shares.values())
    _histogram("Classes", names, values, axis="", unit="% of the voxels", key=f"{key}.classes")


def _centres(low: float, high: float, counts: Sequence[int]) -> list[float]:
    step = (high - low) / len(counts)
    return [low + (place + 0.5) * step for place in range(len(counts))]


def _histogram(
    title: str, places: Sequence[object], values: Sequence[float], *, axis: str, unit: str, key: str
) -> None:
    figure = go.Figure(go.Bar(x=list(places), y=list(values), marker_color="#0072b2"))
    figure.update_layout(
        title=title, height=260, margin={"l": 10, "r": 10, "t": 40, "b": 10}, bargap=0.05,
        xaxis_title=axis, yaxis_title=unit,
    )  # fmt: skip
    st.plotly_chart(figure, key=key, config={"displayModeBar": False})
