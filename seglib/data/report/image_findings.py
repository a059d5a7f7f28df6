"""What images of a data set tell: sizes, grey values, bars and borders."""

from collections.abc import Iterator, Sequence

import numpy as np

from seglib.data.report.finding import Finding, names_of, size_text
from seglib.data.report.measure import VolumeFacts

CLIPPED = 0.01
DIFFERENT = 4.0


def image_findings(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    """All that can be said without labels."""
    yield from _sizes(volumes)
    yield from _grey_values(volumes)
    yield from _scales(volumes)
    yield from _edges(volumes)
    if {facts.voxel_size_nm for facts in volumes} == {(1.0, 1.0, 1.0)}:
        yield Finding(
            "note",
            "The voxel size is 1 × 1 × 1 nm, which is taken where files do not tell it: read nanometres as voxels.",
        )


def _sizes(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    shapes = sorted({facts.shape for facts in volumes})
    if len(shapes) > 1:
        small, large = min(shapes, key=np.prod), max(shapes, key=np.prod)
        yield Finding(
            "note",
            f"Volumes differ in size, from {size_text(small)} to {size_text(large)} voxels (z × y × x). That is fine: "
            "patches are drawn from each, and where one is smaller than a patch its edges are mirrored.",
        )
    sizes = sorted({facts.voxel_size_nm for facts in volumes})
    if len(sizes) > 1:
        ratio = max(max(s[axis] for s in sizes) / min(s[axis] for s in sizes) for axis in range(3))
        yield Finding(
            "warning" if ratio > 1.2 else "note",
            f"Voxel sizes differ, up to {ratio:.3g} times: the same object has other sizes in voxels. Keep what was "
            "taken at another resolution in a data set of its own, or resample it before the import.",
            names_of(volumes, lambda facts: facts.voxel_size_nm != volumes[0].voxel_size_nm),
        )
    channels = {facts.channels for facts in volumes}
    if len(channels) > 1:
        yield Finding(
            "warning",
            "Volumes differ in their number of channels, and a network takes one number: import them as several data "
            "sets.",
            names_of(volumes, lambda facts: facts.channels != volumes[0].channels),
        )
    deep = max((facts.anisotropy for facts in volumes if facts.shape[0] > 1), default=1.0)
    if deep > 1.5:
        yield Finding(
            "note",
            f"Voxels are {deep:.3g} times as deep as wide: patches of fewer planes than rows are suggested, and "
            "augmentation turns them in the plane only.",
        )


def _grey_values(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    for end, word, advice in (
        ("white", "bright", "the detector was saturated or contrast was cut off, and what was there is lost. Expose "
         "less, or export without stretching."),
        ("black", "dark", "the dark end was cut off, and what was there is lost. Raise the detector's offset, or "
         "export without stretching."),
    ):  # fmt: skip
        stuck = {facts.name: max(getattr(grey, end) for grey in facts.grey) - _outside(facts) for facts in volumes}
        clipped = {name: share for name, share in stuck.items() if share > CLIPPED}
        if clipped:
            text = f"Up to {100 * max(clipped.values()):.2g} % of the voxels are stuck at the {word}est value: {advice}"
            yield Finding("warning", text, tuple(clipped))
    flat = names_of(volumes, lambda facts: any(grey.low == grey.high for grey in facts.grey))
    if flat:
        yield Finding("warning", "An image of a single grey value shows nothing: leave it out.", flat)
    broken = names_of(volumes, lambda facts: any(grey.broken for grey in facts.grey))
    if broken:
        yield Finding(
            "warning",
            "There are values that are no finite numbers (NaN or infinity). They are taken as black; export them anew "
            "if they are many.",
            broken,
        )
    for sign in sorted({facts.signs.dtype for facts in volumes} - {""}):
        harmless = "no harm" in sign
        yield Finding(
            "note" if harmless else "warning",
            f"The image {sign}.{'' if harmless else ' Export it anew, or import the right file.'}",
            names_of(volumes, lambda facts, sign=sign: facts.signs.dtype == sign),  # type: ignore[misc]
        )


def _outside(facts: VolumeFacts) -> float:
    """Share of a volume that bars and borders take, at most."""
    return sum(bar.width / facts.shape[1 if bar.edge in ("top", "bottom") else 2] for bar in facts.signs.bars)


def _scales(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    """Grey values that differ from volume to volume, though one normalisation is for all."""
    types = sorted({facts.dtype for facts in volumes})
    if len(types) > 1:
        yield Finding(
            "warning",
            f"Images differ in type ({', '.join(types)}), and most likely in what a grey value means: one "
            "normalisation is for all. Export them alike, or import them as several data sets.",
            names_of(volumes, lambda facts: facts.dtype != volumes[0].dtype),
        )
        return
    spans = {facts.name: _span(facts) for facts in volumes if facts.grey[0].high > facts.grey[0].low}
    if len(spans) < 2:
        return
    widths = [high - low for low, high in spans.values()]
    middles = [(low + high) / 2 for low, high in spans.values()]
    usual = float(np.median(widths))
    if max(widths) > DIFFERENT * min(widths) or max(middles) - min(middles) > DIFFERENT / 2 * usual:
        (low, first), (high, last) = (
            choose(spans.items(), key=lambda item: item[1][1] - item[1][0]) for choose in (min, max)
        )
        yield Finding(
            "warning",
            f"Grey values differ much: most lie between {first[0]:.4g} and {first[1]:.4g} in {low}, between "
            f"{last[0]:.4g} and {last[1]:.4g} in {high}. One normalisation is for all volumes: bring them to one scale "
            "before the import.",
        )


def _span(facts: VolumeFacts) -> tuple[float, float]:
    """Between which grey values 98 % of the voxels lie, to a 64th of the range."""
    grey = facts.grey[0]
    below = np.cumsum(grey.counts) / max(1, sum(grey.counts))
    step = (grey.high - grey.low) / len(grey.counts)
    first, last = int(np.searchsorted(below, 0.01)), int(np.searchsorted(below, 0.99))
    return grey.low + first * step, grey.low + (last + 1) * step


def _edges(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    writing = names_of(volumes, lambda facts: any(not bar.constant for bar in facts.signs.bars))
    if writing:
        yield Finding(
            "warning",
            f"There seems to be an instrument bar{_where(volumes, constant=False)}. Crop it off before the import, "
            "else it is learned from and judged as if it were image.",
            writing,
        )
    constant = names_of(volumes, lambda facts: any(bar.constant for bar in facts.signs.bars))
    if constant:
        yield Finding(
            "warning",
            f"There is an empty border{_where(volumes, constant=True)}. Crop it off, or label it as a value that is "
            "not annotated, so that it does not count.",
            constant,
        )


def _where(volumes: Sequence[VolumeFacts], *, constant: bool) -> str:
    """“, 60 rows at the bottom”; the most where volumes differ."""
    places: dict[str, set[int]] = {}
    for facts in volumes:
        for bar in facts.signs.bars:
            if bar.constant == constant:
                places.setdefault(bar.edge, set()).add(bar.width)
    words = [
        f"{'up to ' if len(widths) > 1 else ''}{max(widths)} "
        f"{'rows at the' if edge in ('top', 'bottom') else 'columns on the'} {edge}"
        for edge, widths in sorted(places.items())
    ]
    return ", " + " and ".join(words)
