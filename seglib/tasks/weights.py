"""Where the weights come from that a training starts with."""

from collections.abc import Mapping

from torch import Tensor

from seglib.checkpoints import load_checkpoint
from seglib.config import FileWeightsConfig, ImageNetConfig, RunConfig, RunWeightsConfig, ScratchConfig
from seglib.data.readers.sources import confine
from seglib.errors import ConfigError
from seglib.models.networks.tensors import read_tensors
from seglib.models.networks.weights import imagenet_encoder
from seglib.models.zoo.smp import SMUNetConfig
from seglib.store import Store
from seglib.store.runs import checkpoints
from seglib.workspace import Workspace


def starting_weights(workspace: Workspace, store: Store, config: RunConfig) -> Mapping[str, Tensor] | None:
    """Tensors by name, or None for a network that starts from scratch.

    Raises ConfigError where there are none of the kind asked for, CheckpointError for a file that cannot be read.
    """
    match config.weights:
        case ScratchConfig():
            return None
        case RunWeightsConfig(run=run, checkpoint=kind):
            if not run or kind not in checkpoints(store, run):
                raise ConfigError(f"Run {run} has no {kind} checkpoint to start from: choose another run.")
            return load_checkpoint(workspace.checkpoint(run, kind)).network
        case FileWeightsConfig(path=path):
            if not path.strip():
                raise ConfigError("Say which file the weights are in.")
            return read_tensors(confine(path.strip()))
        case ImageNetConfig():
            return _imagenet(config)
    raise AssertionError(config.weights)


def _imagenet(config: RunConfig) -> Mapping[str, Tensor]:
    if not isinstance(config.model, SMUNetConfig):
        raise ConfigError("ImageNet weights are for SM-UNet's encoders: choose that network, or start from scratch.")
    encoder = config.model.encoder
    try:
        return imagenet_encoder(encoder)
    except KeyError as error:
        raise ConfigError(f"There are no ImageNet weights of {encoder}: choose another encoder.") from error
    except OSError as error:
        raise ConfigError(
            f"The ImageNet weights of {encoder} could not be downloaded ({error}). Without a connection, download them "
            "elsewhere and choose “From a file”, or start from scratch."
        ) from error
