"""What each architecture costs: parameters, milliseconds a step in bfloat16 and float32, peak memory.

    python tests/bench/bench_models.py [--kinds unet_3d vnet] [--steps 3]

Steps are forwards, backwards and Adam on a batch of 2 patches of 32 × 64 × 64 (planes of 64 × 64 for those of 2D only),
each architecture as it comes, in a process of its own. Prints a Markdown table.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def measure(kind: str, half: bool, steps: int) -> dict[str, float]:
    """Runs in a process of its own: milliseconds a step, parameters, and megabytes at most."""
    import torch

    from seglib.config import DiceBCELossConfig
    from seglib.losses import build_loss, total_loss
    from seglib.models import build_model, config_class

    config = config_class(kind)()
    shape = (1, 64, 64) if config.is_flat else (32, 64, 64)
    with torch.device("meta"):
        build_model(config, inputs=1, outputs=1, shape=shape)  # imports do not count
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    network = build_model(config, inputs=1, outputs=1, shape=shape)
    optimiser = torch.optim.Adam(network.parameters())
    images = torch.rand(2, 1, *shape)
    target = (images[:, 0] > 0.5).to(torch.uint8)
    loss, seconds = build_loss(DiceBCELossConfig()), []
    for _ in range(steps + 1):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found = network(images)
        optimiser.zero_grad(set_to_none=True)
        total_loss(loss, found, target, network)[1].backward()
        optimiser.step()
        seconds.append(time.perf_counter() - began)
    parameters = sum(weight.numel() for weight in network.parameters())
    return {
        "ms": 1000 * statistics.median(seconds[1:]),
        "parameters": parameters,
        "mb": (status("VmHWM") - before) / 1024,
    }


def status(field: str) -> int:
    """Kilobytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise AssertionError(field)


def main() -> int:
    from seglib.models import ARCHITECTURES

    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", nargs="*", default=[one.kind for one in ARCHITECTURES])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "HALF"), help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.one:
        print(json.dumps(measure(parsed.one[0], parsed.one[1] == "1", parsed.steps)))
        return 0
    print("| kind | parameters (M) | ms a step, bf16 | ms a step, fp32 | memory bf16 (MB) | memory fp32 (MB) |")
    print("|---|---|---|---|---|---|")
    for kind in parsed.kinds:
        found = []
        for half in ("1", "0"):
            command = [sys.executable, __file__, "--one", kind, half, "--steps", str(parsed.steps)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        half, full = found
        print(
            f"| {kind} | {half['parameters'] / 1e6:.2f} | {half['ms']:.0f} | {full['ms']:.0f} | {half['mb']:.0f} "
            f"| {full['mb']:.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
