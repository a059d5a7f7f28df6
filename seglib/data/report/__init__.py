"""What is in a data set, and what in it will hurt.

Volumes are measured one by one, read slab by slab (measure.py), and a few of their planes are looked at for what goes
wrong at microscopes and with files (signs.py). What was found is then put into words with advice (findings.py), which
needs no voxel any more, so that it can be asked for every split and patch.
"""
