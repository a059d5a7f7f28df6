"""Checkpoints of small untrained networks, as a run would have left them."""

import torch

from seglib.checkpoints import Checkpoint
from seglib.config import DataConfig, DiceCELossConfig, PatchConfig, RunConfig
from seglib.data.normalise import Normalisation, between
from seglib.losses import outputs_of
from seglib.models import build_model

VOXEL_NM = (40.0, 8.0, 4.0)
HOSTILE = "axon/../<b>&\"'\n細胞 {0} $(x)"


def make_checkpoint(
    model,
    shape,
    *,
    names=("axon", "myelin"),
    normalisation: Normalisation | None = None,
    softmax: bool = False,
    name="R",
) -> Checkpoint:
    """A checkpoint of a network with weights by chance. softmax: classes compete with the background."""
    config = RunConfig(
        name=name, data=DataConfig(dataset=1), model=model, patches=PatchConfig(shape=shape)
    ).model_copy(update={"loss": DiceCELossConfig()} if softmax else {})  # fmt: skip
    normalisation = normalisation or between([10.0], [210.0])
    torch.manual_seed(0)
    outputs = outputs_of(config.loss, len(names))
    network = build_model(model, inputs=normalisation.channels, outputs=outputs, shape=shape)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):  # as after a training, so that scaling by it is seen
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return Checkpoint(
        config=config,
        values=tuple(range(1, len(names) + 1)),
        names=tuple(names),
        channels=normalisation.channels,
        normalisation=normalisation,
        voxel_size_nm=VOXEL_NM,
        step=120,
        epoch=3,
        score=0.75,
        best_score=0.75,
        network=network.state_dict(),
        thresholds=tuple(0.4 for _ in names),
    )


def answer_of(checkpoint: Checkpoint, image, *, softmax: bool = False):
    """Probabilities (N, K, Z, Y, X) of an image (N, C, Z, Y, X), by the way a prediction goes."""
    outputs = len(checkpoint.names) + softmax
    config = checkpoint.config
    network = build_model(config.model, inputs=checkpoint.channels, outputs=outputs, shape=config.patches.shape)
    network.load_state_dict(checkpoint.network)
    batch = torch.stack([torch.from_numpy(checkpoint.normalisation.apply(one)) for one in image])
    with torch.no_grad():
        logits = network.eval()(batch)
    found = logits.softmax(1)[:, 1:] if softmax else logits.sigmoid()
    return found.numpy()
