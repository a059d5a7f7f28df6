"""The settings that were published with other systems, by name.

A recipe is a function from settings that fit a data set to those of the system: what it does not say stays as it was.
Each says where it is from and where it has to differ. Fitting them to data is another matter: see fitting.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from seglib.config import (
    AdamConfig,
    AdamWConfig,
    AutoSplitConfig,
    BCELossConfig,
    CheckpointConfig,
    CosineConfig,
    DiceLossConfig,
    EMAugmentationConfig,
    EncoderRangeConfig,
    GridSamplingConfig,
    GroupSplitConfig,
    ImageNetConfig,
    LengthConfig,
    LightAugmentationConfig,
    MinMaxConfig,
    NoAugmentationConfig,
    PatchConfig,
    PercentileConfig,
    PlateauConfig,
    RandomSamplingConfig,
    RunConfig,
    SGDConfig,
    UNet3DConfig,
    ValidationConfig,
)
from seglib.config.losses import (
    DiceCategoricalFocalLossConfig,
    GeneralisedDiceLossConfig,
    SumLossConfig,
    WeightedBCELossConfig,
    WeightedLossConfig,
)
from seglib.config.optimisers import ConstantConfig
from seglib.models.zoo.compact import CompactUNetConfig
from seglib.models.zoo.monai import SegResNetConfig
from seglib.models.zoo.smp import SMUNetConfig
from seglib.models.zoo.wnet import WNetConfig

PERCENTILES = PercentileConfig(low=1.0, high=99.0)


@dataclass(frozen=True)
class Recipe:
    """title: what the system is called; make: its settings, from those that fit a data set."""

    title: str
    make: Callable[[RunConfig], RunConfig]

    @property
    def source(self) -> str:
        """Where it is from and where it differs, in sentences."""
        return " ".join((self.make.__doc__ or "").split())


def axon_unet(start: RunConfig) -> RunConfig:
    """The 3D U-Net of the axon notebooks (mouse spinal cord, Keras).

    Patches of 32 × 64 × 64 in batches of 2, Adam at 1e-4 for 150 epochs, Dice + categorical focal, dropout rising from
    0.1 to 0.5, the rate divided by 10 after 10 epochs without a better validation loss.
    The notebooks use raw grey values; here they are brought to −1 … 1, which batch normalisation makes equal. They
    judge on the part they report; here a part of 10 % judges that never trains. How wide the network is was not
    published: 16 start channels over five levels are taken.
    """
    return start.model_copy(
        update={
            "split": AutoSplitConfig(validation_share=0.1),
            "normalisation": MinMaxConfig(),
            "patches": PatchConfig(shape=(32, 64, 64), batch_size=2),
            "sampling": GridSamplingConfig(),
            "augmentation": NoAugmentationConfig(),
            "model": UNet3DConfig(depth=5, dropout=0.1, deepest_dropout=0.5),
            "loss": DiceCategoricalFocalLossConfig(),
            "optimiser": AdamConfig(learning_rate=1e-4),
            "schedule": PlateauConfig(factor=0.1, patience=10),
            "length": LengthConfig(epochs=150),
            "validation": ValidationConfig(best_by="loss"),
        }
    )


def axon_sm_unet(start: RunConfig) -> RunConfig:
    """The SM-UNet of the axon notebooks: a VGG16 encoder trained on photographs, made 3D.

    500 epochs and Dice + categorical focal + Jaccard, as its code has it; all else as in the 3D U-Net of the notebooks.
    The weights of the encoder are downloaded once; choose From scratch where there is no way to.
    """
    return axon_unet(start).model_copy(
        update={
            "normalisation": EncoderRangeConfig(),
            "model": SMUNetConfig(decoder="unet", encoder="vgg16"),
            "weights": ImageNetConfig(),
            "loss": DiceCategoricalFocalLossConfig(jaccard=True),
            "length": LengthConfig(epochs=500),
        }
    )


def cellseg3d(start: RunConfig) -> RunConfig:
    """CellSeg3D's supervised training (Achard et al. 2024): SegResNet on patches of 64³.

    Two patches of every volume an epoch, in batches of 1, Adam at 1e-3 for 50 epochs, generalised Dice as in its
    benchmark, validation every 2 epochs, a fifth of the data judging, variations of one patch in ten.
    It halves the rate after 10 epochs in which the training loss did not fall; here the validation score decides. It
    takes the first files for training; here they are drawn.
    """
    return start.model_copy(
        update={
            "split": AutoSplitConfig(validation_share=0.2),
            "normalisation": PERCENTILES,
            "patches": PatchConfig(shape=(64, 64, 64), batch_size=1),
            "sampling": RandomSamplingConfig(per_volume=2, foreground_share=0.0),
            "augmentation": LightAugmentationConfig(flip=0.1, turn=0.1, brightness=0.1, contrast=0.0, elastic=0.1),
            "model": SegResNetConfig(),
            "loss": GeneralisedDiceLossConfig(),
            "optimiser": AdamConfig(learning_rate=1e-3),
            "schedule": PlateauConfig(factor=0.5, patience=10),
            "length": LengthConfig(epochs=50, seed=34936339),
            "validation": ValidationConfig(interval=2, overlap=0.25),
        }
    )


def wnet3d(start: RunConfig) -> RunConfig:
    """CellSeg3D's WNet3D, which learns without labels (Achard et al. 2024).

    Patches of 64³ in batches of 2, Adam at 2e-5 with a weight decay of 0.01 for 50 epochs, a checkpoint every 5.
    """
    return start.model_copy(
        update={
            "data": start.data.model_copy(update={"task": "foreground"}),
            "patches": PatchConfig(shape=(64, 64, 64), batch_size=2),
            "augmentation": LightAugmentationConfig(flip=0.1, turn=0.1, brightness=0.0, contrast=0.0),
            "model": WNetConfig(),
            "optimiser": AdamConfig(learning_rate=2e-5, weight_decay=0.01),
            "schedule": ConstantConfig(),
            "length": LengthConfig(epochs=50),
            "checkpoints": CheckpointConfig(interval=5),
        }
    )


def anatomics(start: RunConfig) -> RunConfig:
    """Anatomics MLT and the engine beneath it, PyTorch Connectomics 1.0: residual 3D U-Net for electron micrographs.

    100,000 iterations of one patch, SGD from 1e-4 with a warm-up of 1000 and a cosine, a checkpoint every 5000 and all
    of them kept, balanced BCE + half of Dice, windows of 16 × 224 × 224 where voxels are deeper than wide and of 112³
    where they are cubes, three levels in the plane only.
    It has no validation; here a part judges every 5000 iterations. Its levels have 28 to 80 channels; here each has
    twice as many as the one before, from 16. Its windows of 225 become 224, which five levels can halve.
    """
    losses = (WeightedLossConfig(loss=WeightedBCELossConfig()), WeightedLossConfig(weight=0.5, loss=DiceLossConfig()))
    return start.model_copy(
        update={
            "patches": PatchConfig(shape=(16, 224, 224), batch_size=1),
            "sampling": RandomSamplingConfig(per_epoch=1000, foreground_share=0.95),
            "augmentation": EMAugmentationConfig(),
            "model": UNet3DConfig(depth=5, flat_levels=3, residual=True, activation="elu"),
            "loss": SumLossConfig(parts=losses),
            "optimiser": SGDConfig(learning_rate=1e-4, weight_decay=1e-4),
            "schedule": CosineConfig(warm_up=1000),
            "length": LengthConfig(epochs=100, iterations=100_000),
            "validation": ValidationConfig(interval=5000, unit="iterations"),
            "checkpoints": CheckpointConfig(interval=5000, unit="iterations", keep="all"),
        }
    )


def mycobacteria(start: RunConfig) -> RunConfig:
    """The compact 2D U-Net for mycobacteria under a phase-contrast microscope.

    One crop of 768 × 448 of every image an epoch, in batches of 16, AdamW at 1e-4 with a weight decay of 0.01 for 250
    epochs, BCE, positions whose folder ends in 09, 10, 19 or 20 judging.
    It scales every crop to its own range; here one range is measured for all, as a crop of background has none. It
    judges on crops drawn by chance; here whole images are judged.
    """
    return start.model_copy(
        update={
            "split": GroupSplitConfig(),
            "normalisation": MinMaxConfig(),
            "patches": PatchConfig(shape=(1, 448, 768), batch_size=16),
            "sampling": RandomSamplingConfig(per_volume=1, foreground_share=0.0),
            "augmentation": LightAugmentationConfig(
                turn=0.0, rotate=0.5, rotate_degrees=15.0, scale=0.5, scale_by=0.1, brightness=0.0, contrast=0.0
            ),
            "model": CompactUNetConfig(),
            "loss": BCELossConfig(),
            "optimiser": AdamWConfig(learning_rate=1e-4, weight_decay=1e-2),
            "schedule": ConstantConfig(),
            "length": LengthConfig(epochs=250),
        }
    )


def fly_brain(start: RunConfig) -> RunConfig:
    """The 3dsegmentation toolkit's basic 3D U-Net, for columns of the fly's optic lobe.

    Crops of 64³ of which at most 95 % are background, one of every volume an epoch, in batches of 32, Adam at 1e-3 for
    100 epochs, four levels from 4 channels, Dice, the rate divided by 5 after 3 epochs without a better validation, an
    early end after 15, at most 30 million parameters. Made-up samples called validation* judge.
    It scales every crop by its own percentiles; here those of the training part are taken. It picks the best state by
    an error of raw outputs; here by the Dice of probabilities.
    """
    return start.model_copy(
        update={
            "split": GroupSplitConfig(validation="validation*"),
            "normalisation": PERCENTILES,
            "patches": PatchConfig(shape=(64, 64, 64), batch_size=32),
            "sampling": RandomSamplingConfig(per_volume=1, foreground_share=0.0, background_most=0.95),
            "augmentation": NoAugmentationConfig(),
            "model": UNet3DConfig(depth=4, start_channels=4),
            "loss": DiceLossConfig(),
            "optimiser": AdamConfig(learning_rate=1e-3),
            "schedule": PlateauConfig(factor=0.2, patience=3),
            "length": LengthConfig(epochs=100, patience=15),
            "compute": start.compute.model_copy(update={"most_parameters": 30.0}),
        }
    )


RECIPES = {
    "axon-unet": Recipe("Axon notebooks, 3D U-Net", axon_unet),
    "axon-sm-unet": Recipe("Axon notebooks, SM-UNet (VGG16)", axon_sm_unet),
    "cellseg3d": Recipe("CellSeg3D, SegResNet", cellseg3d),
    "wnet3d": Recipe("CellSeg3D, WNet3D (no labels)", wnet3d),
    "anatomics": Recipe("Anatomics, residual U-Net", anatomics),
    "mycobacteria": Recipe("Mycobacteria, compact 2D U-Net", mycobacteria),
    "fly-brain": Recipe("Fly brain, small 3D U-Net", fly_brain),
}
