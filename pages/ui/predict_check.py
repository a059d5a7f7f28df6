"""What a prediction would do, before it is started: windows, memory, disk, and what would make it fail."""

from collections.abc import Sequence

import streamlit as st

from pages.ui.frame import plain, services, sizes
from seglib.config import PredictConfig
from seglib.jobs.forecast import Forecast, forecast_prediction
from seglib.store.datasets import VolumeRow, get_volume
from seglib.store.runs import checkpoints

# Volumes of different sizes that are looked at before the start.
MOST_KINDS = 12


def show_check(config: PredictConfig, volumes: Sequence[VolumeRow]) -> bool:
    """Draws it; whether all that was looked at can be predicted."""
    kinds: dict[tuple[object, ...], list[VolumeRow]] = {}
    for volume in volumes:
        kinds.setdefault((volume.shape_czyx, volume.voxel_size_nm), []).append(volume)
    looked = list(kinds.values())[:MOST_KINDS]
    found = [(_forecast_of(config, alike[0]), alike) for alike in looked]
    good = [(forecast, alike) for forecast, alike in found if not forecast.problem]
    with st.container(border=True):
        st.markdown("**:material/fact_check: Before you start**")
        if good:
            _numbers(good, len(volumes))
            for note in dict.fromkeys(note for forecast, _ in good for note in forecast.notes):
                st.caption(plain(note))
        if len(kinds) > MOST_KINDS:
            st.caption(f"These numbers are of the first {MOST_KINDS} of {len(kinds)} sizes of volumes.")
    for forecast, alike in found:
        if forecast.problem:
            more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
            where = f"{plain(alike[0].name)}{more}: " if len(volumes) > 1 else ""
            st.error(where + plain(forecast.problem), icon=":material/error:")
    return len(good) == len(found)


def _numbers(good: Sequence[tuple[Forecast, Sequence[VolumeRow]]], volumes: int) -> None:
    largest = max((forecast for forecast, _ in good), key=lambda forecast: forecast.memory_bytes)
    tiles = sum(forecast.tiles * len(alike) for forecast, alike in good)
    disk = sum(forecast.disk_bytes * len(alike) for forecast, alike in good)
    cells = st.columns(4)
    cells[0].metric(
        "Windows",
        f"{tiles:,}",
        f"{volumes:,} volume{'s' if volumes > 1 else ''}"
        + (f", each window looked at {largest.looks} times" if largest.looks > 1 else ""),
        delta_color="off",
        delta_arrow="off",
        help="Pieces the network segments one after the other.",
    )
    cells[1].metric("Window", sizes(largest.window), help="z × y × x in voxels, of the largest volume.")
    cells[2].metric(
        "Memory",
        f"{largest.memory_bytes / 2**30:.2f} GB",
        f"on {largest.device}",
        delta_color="off",
        delta_arrow="off",
        help="About what the network takes for the windows computed at once; fewer are where memory runs out.",
    )
    cells[3].metric(
        "On disk", f"up to {disk / 1e9:.2f} GB" if disk >= 1e8 else f"up to {disk / 1e6:.1f} MB",
        help="Labels, probabilities and uncertainty before they are compressed.",
    )  # fmt: skip


def _forecast_of(config: PredictConfig, volume: VolumeRow) -> Forecast:
    # What is cleaned afterwards does not change how a volume is looked at; thresholds may be too many.
    cleaning = config.cleaning.model_copy(update={"smallest": 0, "holes": 0})
    same = config.model_copy(update={"volume": volume.id, "cleaning": cleaning})
    store, runs = services().store, (config.run, *config.ensemble.runs)
    files = tuple(sorted(row.sha256 for run in runs for row in checkpoints(store, run).values()))
    return _forecast(str(services().workspace.root), same.model_dump_json(), volume.fingerprint, files)


@st.cache_data(max_entries=256, show_spinner="Looking at what it takes …")
def _forecast(root: str, settings: str, fingerprint: str, files: tuple[str, ...]) -> Forecast:
    """Kept by all that decides it: the workspace, the settings, the volume's voxels and the checkpoints."""
    config = PredictConfig.model_validate_json(settings)
    here = services()
    return forecast_prediction(here.workspace, here.store, get_volume(here.store, config.volume), config)
