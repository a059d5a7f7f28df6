"""What a network is made of and how far it sees, on demand."""

import pandas as pd
import streamlit as st

from pages.ui.frame import errors_shown, services, sizes
from seglib.config import RunConfig
from seglib.preflight import Preflight
from seglib.report import stored_report
from seglib.store.datasets import DatasetRow
from seglib.training.advice import with_labels


@st.fragment
def show_network(dataset: DatasetRow, config: RunConfig, preflight: Preflight) -> None:
    """A toggle, and the network's layers once it is on."""
    if not st.toggle(
        "Show the network: how far it sees, and its layers", key=f"network.{dataset.id}.shown", persist_state="session"
    ):
        return
    # What looks into networks needs torch, and the page should be there before it.
    from seglib.training.anatomy import examine_run

    with errors_shown():
        config = with_labels(config, dataset.labels)
        anatomy = examine_run(config, dataset.volumes[0].shape_czyx[0], shape=preflight.patch)
        patch = sizes(preflight.patch)
        st.write(f"A voxel of the result depends on at most {sizes(anatomy.sees)} voxels of the patch {patch}.")
        report = stored_report(services().workspace, dataset)
        extents = [
            facts.labels.objects.extents
            for facts in (report.volumes if report else ())
            if facts.labels and facts.labels.objects and facts.labels.objects.count
        ]
        if extents:
            largest = tuple(max(sides) for sides in zip(*extents, strict=True))
            st.write(
                f"Nine of ten objects fit into {sizes(largest)} voxels. A network that sees less than that cannot tell "
                "where a large one begins and ends."
            )
        else:
            st.caption("How large objects are is told here once the data were checked: Datasets, Report.")
        rows = [
            {
                "Layer": layer.name,
                "Kind": layer.kind,
                "Result (channels, then voxels)": sizes(layer.shape),
                "Parameters": layer.parameters,
            }
            for layer in anatomy.layers
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, height=320)
