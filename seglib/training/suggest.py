"""Settings suggested for a data set and a machine, each with the number it came from.

What nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z) does with a fingerprint of the data is done here
with the data set's report. Nothing is read and nothing is drawn by chance: the same data give the same settings.
"""

import math
from collections.abc import Sequence

from seglib.config import (
    AdamWConfig,
    AugmentationConfig,
    ClassSamplingConfig,
    DiceBCELossConfig,
    EMAugmentationConfig,
    LabelScheme,
    LengthConfig,
    LossConfig,
    NormalisationConfig,
    PatchConfig,
    PercentileConfig,
    RandomSamplingConfig,
    RunConfig,
    SamplingConfig,
    StandardAugmentationConfig,
    UNet3DConfig,
    ValidationConfig,
)
from seglib.config.losses import DiceCELossConfig
from seglib.config.optimisers import CosineConfig
from seglib.data.report.measure import VolumeFacts
from seglib.models.zoo.wnet import WNetConfig
from seglib.training.advice import UNLABELLED_CHANNELS
from seglib.training.fingerprint import Fingerprint, take_fingerprint
from seglib.training.machine import Machine
from seglib.training.sizing import STEP_S, Sizes, fit_patch, fit_unet
from seglib.training.suggestion import Reason, Suggestion

EPOCH_S = 60.0
MOST_STEPS, FEWEST_STEPS = 250, 8
EPOCHS, EPOCHS_ON_CPU = 100, 10
# Found on electron micrographs: twice the usual rate learns faster with batch normalisation; the average of the
# weights over some fifty steps is steady enough to be judged long before the rate has fallen.
RATE, AVERAGE, WARM_UP = 2e-3, 0.98, 10
RARE, SCARCE, COMMON = 0.002, 0.02, 0.2
SHARES = {RARE: 0.9, SCARCE: 0.75, COMMON: 0.5}
SHARE_OF_COMMON = 0.33
# Sections of an electron microscope have pixels of a few nanometres; light does not resolve so little.
EM_PIXEL_NM = 30.0
UNKNOWN = (1.0, 1.0, 1.0)
# Where fewer voxels than this are labelled, the usual percentiles might cut off all that is bright.
FEW_BRIGHT = 0.005
BRIGHTEST = 99.5
# Validation may take so much of the time of what it judges.
VALIDATION_SHARE = 0.3
# Tiles that overlap by a quarter along each axis compute each voxel so often.
TILED = 2.0


def suggest(dataset: int, volumes: Sequence[VolumeFacts], labels: LabelScheme, machine: Machine) -> Suggestion:
    """Settings that are ready to run on a data set, sized for a machine.

    dataset: its id; volumes: its report, in the order of the data set; labels: how its label values are read.
    Where no voxel is labelled, the network is one that needs no labels.
    Raises ConfigError where the data cannot be divided into training and validation in any way.
    """
    found = take_fingerprint(dataset, volumes, labels)
    normalisation, why = _normalisation(found)
    config = RunConfig(data=found.data, split=found.split, normalisation=normalisation)
    build = _supervised if found.shares else _unsupervised
    config, reasons = build(config, found, machine)
    return Suggestion(config, (*found.reasons, why, *reasons))


def _supervised(config: RunConfig, found: Fingerprint, machine: Machine) -> tuple[RunConfig, list[Reason]]:
    loss, why_loss = _loss(found)
    sizes = fit_unet(found.needs, machine, loss)
    length, per_epoch, interval, why_long = _course(sizes, found, machine)
    sampling, why_drawn = _sampling(found, per_epoch)
    augmentation, why_varied = _augmentation(found)
    changes = {
        "patches": PatchConfig(shape=sizes.patch, batch_size=sizes.batch),
        "sampling": sampling,
        "augmentation": augmentation,
        "model": sizes.model,
        "loss": loss,
        "optimiser": AdamWConfig(learning_rate=RATE, average=AVERAGE),
        "schedule": CosineConfig(warm_up=WARM_UP),
        "length": length,
        "validation": ValidationConfig(interval=interval),
    }
    rate = (
        f"AdamW begins at a rate of {RATE:g}, which falls along a cosine to almost 0 at the last of the "
        f"{length.epochs} epochs, and an average over some {1 / (1 - AVERAGE):.0f} steps is judged."
    )
    reasons = [
        *_patch_reasons(sizes, found, machine),
        why_drawn,
        why_varied,
        *_network_reasons(sizes, found),
        why_loss,
        Reason("optimiser", rate),
        *why_long,
    ]
    return config.model_copy(update=changes), reasons


def _unsupervised(config: RunConfig, found: Fingerprint, machine: Machine) -> tuple[RunConfig, list[Reason]]:
    """WNet3D, narrow enough for any machine."""
    place = found.grey_place
    model = WNetConfig(start_channels=UNLABELLED_CHANNELS, objects="bright" if place < 0.5 else "dark")
    sizes = fit_patch(found.needs, machine, config.loss, model)
    length, per_epoch, interval, why_long = _course(sizes, found, machine)
    changes = {
        "patches": PatchConfig(shape=sizes.patch, batch_size=sizes.batch),
        "sampling": RandomSamplingConfig(per_epoch=per_epoch),
        "model": model,
        "length": length,
        "validation": ValidationConfig(interval=interval),
    }
    text = (
        f"No voxel is labelled, so WNet3D, which needs no labels, looks for {model.objects} objects: the mean grey "
        f"value lies at {100 * place:.0f} % of the range."
    )
    return config.model_copy(update=changes), [
        *_patch_reasons(sizes, found, machine),
        Reason("model", text),
        *why_long,
    ]


def _normalisation(found: Fingerprint) -> tuple[NormalisationConfig, Reason]:
    grey = found.volumes[0].grey[0]
    share = sum(share for value, share in found.shares.items() if value)
    if 0 < share < FEW_BRIGHT:
        high = round(100 - 100 * share / 10, 3)
        text = f"Only {100 * share:.2g} % of the voxels are labelled: the brightest {100 - high:.2g} % are cut off."
        return PercentileConfig(high=high), Reason("normalisation", text)
    most = max(max(one.black, one.white) for facts in found.volumes for one in facts.grey)
    stuck = f", and {100 * most:.2g} % are stuck at one end" if most > 0 else ""
    text = (
        f"Grey values of {found.volumes[0].name} go from {grey.low:g} to {grey.high:g}{stuck}: the darkest and the "
        "brightest 0.5 % are cut off, so that a few odd voxels do not set the range."
    )
    return PercentileConfig(high=BRIGHTEST), Reason("normalisation", text)


def _loss(found: Fingerprint) -> tuple[LossConfig, Reason]:
    if len(found.names) == 1:
        share = f"{100 * found.rarest[1]:.2g} % of the voxels are foreground"
        return DiceBCELossConfig(), Reason(
            "loss", f"{share}: Dice counts them however few they are, and BCE keeps it steady."
        )
    name, share_of = found.rarest
    text = (
        f"The {len(found.names)} classes exclude each other, and the rarest, {name}, has {100 * share_of:.2g} % of the "
        "voxels: Dice counts each class as much, however rare it is."
    )
    return DiceCELossConfig(), Reason("loss", text)


def _sampling(found: Fingerprint, per_epoch: int) -> tuple[SamplingConfig, Reason]:
    name, rarest = found.rarest
    share = next((share for least, share in SHARES.items() if rarest < least), SHARE_OF_COMMON)
    kind = ClassSamplingConfig if len(found.names) > 1 else RandomSamplingConfig
    centred = "a class in the middle, each as often" if len(found.names) > 1 else "something labelled in the middle"
    text = f"{100 * rarest:.2g} % of the voxels are {name}, so {100 * share:.0f} % of the patches have {centred}."
    return kind(per_epoch=per_epoch, foreground_share=share), Reason("sampling", text)


def _augmentation(found: Fingerprint) -> tuple[AugmentationConfig, Reason]:
    voxel, deep = found.needs.voxel_size_nm, found.needs.deep
    if voxel != UNKNOWN and max(voxel[1:]) <= EM_PIXEL_NM and not found.needs.flat and deep > 1.5:
        text = f"Pixels of {max(voxel[1:]):g} nm are an electron microscope's, so lost and slipped sections are tried."
        return EMAugmentationConfig(), Reason("augmentation", text)
    number = len(found.volumes)
    text = (
        f"{number} labelled volume{'s' * (number > 1)} can be learned by heart, so patches are turned, bent and made "
        "brighter or darker."
    )
    return StandardAugmentationConfig(), Reason("augmentation", text)


def _patch_reasons(sizes: Sizes, found: Fingerprint, machine: Machine) -> list[Reason]:
    needs, patch = found.needs, sizes.patch
    why = {
        "volumes": f"as large as the training parts of {_sizes(needs.room)} allow",
        "memory": f"as large as {machine.memory_bytes / 2**30:.3g} GB of free memory allow for {sizes.batch} at once",
        "time": f"as large as a step of about {STEP_S:g} s on {_computer(machine)} allows",
        "objects": "large enough for nine of ten objects",
        "enough": "large enough to show what surrounds a voxel",
    }[sizes.limit]
    reasons = [Reason("patches.shape", f"Patches of {_sizes(patch)} voxels (z × y × x) are {why}{_shape_text(found)}.")]
    if needs.objects:
        fits = all(
            have >= min(side, room) for have, side, room in zip(sizes.patch, needs.objects, needs.room, strict=True)
        )
        verdict = "so whole ones are seen" if fits else "so larger ones are seen in pieces"
        text = f"Nine of ten objects are within {_sizes(needs.objects)} voxels, {verdict}."
        reasons.append(Reason("patches.shape", text))
    norm = "normalised over the batch" if sizes.batch > 1 else "one alone has no batch to be normalised over"
    reasons.append(Reason("patches.batch_size", f"{sizes.batch} patches make a batch, {norm}."))
    return reasons


def _shape_text(found: Fingerprint) -> str:
    needs = found.needs
    if needs.flat or needs.voxel_size_nm == UNKNOWN:
        return ""
    return f", and about as deep as wide, as voxels are {needs.deep:.3g} times as deep as wide"


def _network_reasons(sizes: Sizes, found: Fingerprint) -> list[Reason]:
    model, needs = sizes.model, found.needs
    planes = f"{needs.room[0]} plane{'s' * (needs.room[0] > 1)}"
    if not isinstance(model, UNet3DConfig):
        return [Reason("model", f"The volumes have {planes}, so the network works plane by plane.")]
    sides = _sizes(tuple(side // step for side, step in zip(sizes.patch, model.stride, strict=True)))
    text = f"{model.depth} levels halve the patch of {_sizes(sizes.patch)} until {sides} voxels are left."
    reasons = [Reason("model.depth", text)]
    if model.flat_levels:
        levels = "level shrinks" if model.flat_levels == 1 else f"{model.flat_levels} levels shrink"
        deep = f"Voxels are {needs.deep:.3g} times as deep as wide" if needs.deep > 1.4 else f"There are only {planes}"
        reasons.append(Reason("model.flat_levels", f"{deep}, so the first {levels} in the plane only."))
    text = f"{model.start_channels} start channels make {sizes.patch_adds / 1e9:.3g} billion multiply-adds a patch."
    return [*reasons, Reason("model.start_channels", text)]


def _course(sizes: Sizes, found: Fingerprint, machine: Machine) -> tuple[LengthConfig, int, int, list[Reason]]:
    """Length, patches of an epoch, and every how many epochs is validated."""
    steps = max(FEWEST_STEPS, min(MOST_STEPS, round(EPOCH_S / sizes.step_s)))
    epochs = EPOCHS_ON_CPU if machine.is_cpu else EPOCHS
    judging = TILED * found.judged_voxels / math.prod(sizes.patch) * sizes.patch_adds / machine.rate
    training = steps * sizes.step_s
    interval = max(1, min(epochs, math.ceil(judging / (VALIDATION_SHARE * training))))
    seconds = epochs * training + epochs // interval * judging
    text = (
        f"{steps * sizes.batch} patches make an epoch of {_time(training)} on {_computer(machine)}, and {epochs} of "
        f"them take {_time(seconds)}, as far as can be told; take more while the curves still rise at the end."
    )
    reasons = [Reason("length.epochs", text)]
    if interval > 1:
        text = f"To judge {found.judged_voxels / 1e6:.3g} million voxels takes {_time(judging)}, so it is done every "
        reasons.append(Reason("validation.interval", f"{text}{interval} epochs."))
    return LengthConfig(epochs=epochs), steps * sizes.batch, interval, reasons


def _computer(machine: Machine) -> str:
    if machine.is_cpu:
        return f"a CPU of {machine.cores} core{'s' * (machine.cores > 1)}"
    return "a GPU"


def _time(seconds: float) -> str:
    """“about 40 s”, “about 12 min”, “about 3 h”."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.2g} {unit}"
    return f"about {max(1, round(seconds))} s"


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
