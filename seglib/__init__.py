"""Training 3D segmentation of microscopy volumes; the library under Seglib Studio."""

import os

# Threads of torch's OpenMP wait for one another by spinning for milliseconds. As soon as anything else wants a
# core – a browser, a second job – they spin in the way of the very thread they wait for: a training step took
# forty times as long beside another torch program. A short spin costs nothing on an idle machine. It must be set
# before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "500")
