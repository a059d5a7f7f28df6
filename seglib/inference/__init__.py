"""From a network and a volume to a segmentation, tile by tile."""
