"""Weights from elsewhere: fitted to a network tensor by tensor, with a report of what became of each."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# What frameworks put before the names of a network's own tensors.
WRAPPERS = ("", "module.", "model.", "network.", "net.", "_orig_mod.", "state_dict.")
# Where a network keeps an encoder whose weights may come alone, as those for ImageNet do.
ENCODERS = ("encoder.", "network.encoder.")
CONVOLUTION_2D, CONVOLUTION_3D = 4, 5


@dataclass(frozen=True)
class WeightReport:
    """Names of the network's tensors. matched: taken as they are; adapted: with what was done to them; skipped: of
    another shape, so that they start anew; missing: not among the weights. kernels: how many taken have two
    dimensions or more; without any, the weights are of another network.
    """

    matched: tuple[str, ...]
    adapted: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]
    kernels: int

    @property
    def text(self) -> str:
        """The report in a sentence or two."""
        whole = len(self.matched) + len(self.adapted) + len(self.skipped) + len(self.missing)
        parts = [f"Weights: {len(self.matched)} of {whole} tensors taken as they are"]
        for names, what in ((self.adapted, "adapted"), (self.skipped, "of another shape"), (self.missing, "not there")):
            if names:
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})")
        anew = " Those not taken start anew." if self.skipped or self.missing else ""
        return f"{'; '.join(parts)}.{anew}"


def load_into(network: nn.Module, tensors: Mapping[str, Tensor]) -> WeightReport:
    """Copies what fits into a network, in place.

    Names are compared without what frameworks put before them. A 2D kernel becomes a 3D one by repeating it along z,
    divided by how often; a first layer of another number of channels gets the mean of its kernels, scaled so that a
    grey image looks to it as before.
    """
    own = network.state_dict()
    found = _named_alike(own, tensors)
    matched, adapted, skipped = list[str](), list[str](), list[str]()
    growing = {name for name, module in network.named_modules() if isinstance(module, nn.ConvTranspose3d)}
    kernels = 0
    for name, mine in own.items():
        if name not in found:
            continue
        theirs, how = _fitted(found[name], mine, grows=name.rpartition(".")[0] in growing)
        if theirs is None:
            skipped.append(name)
            continue
        mine.copy_(theirs.to(mine.dtype))
        kernels += mine.ndim > 1
        (adapted if how else matched).append(f"{name}: {how}" if how else name)
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    return WeightReport(tuple(matched), tuple(adapted), tuple(skipped), tuple(missing), kernels)


def _named_alike(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the network's names, by whichever wrappers taken off and put on most names agree."""
    best: dict[str, Tensor] = {}
    for theirs in WRAPPERS:
        bare = {name.removeprefix(theirs): tensor for name, tensor in tensors.items() if name.startswith(theirs)}
        for mine in (*WRAPPERS, *ENCODERS):
            found = {f"{mine}{name}": tensor for name, tensor in bare.items() if f"{mine}{name}" in own}
            best = found if len(found) > len(best) else best
    return best


def _fitted(theirs: Tensor, mine: Tensor, *, grows: bool) -> tuple[Tensor | None, str]:
    """A tensor in the shape wanted, and what was done to it; None where it cannot be.

    grows: it is of a transposed convolution, each of whose planes makes a plane of its own.
    """
    done = []
    if theirs.ndim == CONVOLUTION_2D and mine.ndim == CONVOLUTION_3D:
        theirs = theirs.unsqueeze(2)
    if mine.ndim == theirs.ndim == CONVOLUTION_3D and theirs.shape[2] == 1 < mine.shape[2]:
        if theirs.shape[3:] != mine.shape[3:]:
            return None, ""
        depth = mine.shape[2]
        theirs = theirs.expand(-1, -1, depth, -1, -1) / (1 if grows else depth)
        done.append("2D to 3D")
    if theirs.ndim == mine.ndim >= CONVOLUTION_2D and theirs.shape[1] != mine.shape[1]:
        rest_agrees = theirs.shape[0] == mine.shape[0] and theirs.shape[2:] == mine.shape[2:]
        # A first layer looks at a few channels, grey or colour, with more than one voxel of each.
        if rest_agrees and theirs.shape[1] <= CONVOLUTION_2D and max(theirs.shape[2:]) > 1:
            channels = mine.shape[1]
            theirs = theirs.sum(1, keepdim=True).expand(-1, channels, *theirs.shape[2:]) / channels
            done.append(f"{channels} channel(s)")
    return (theirs, ", ".join(done)) if theirs.shape == mine.shape else (None, "")


def imagenet_encoder(encoder: str) -> dict[str, Tensor]:
    """Weights of an encoder of segmentation-models-pytorch-3d, made 3D by the library's own rule.

    Downloaded on first use and kept in torch's cache. Raises OSError without a connection, KeyError where there are
    none of that name.
    """
    # Drawing the weights that are then replaced must not move the generator that the run draws from.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library calls parts of itself deprecated
        import segmentation_models_pytorch_3d as smp

        made = smp.encoders.get_encoder(encoder, in_channels=3, weights="imagenet")
    return {f"encoder.{name}": tensor for name, tensor in made.state_dict().items()}
