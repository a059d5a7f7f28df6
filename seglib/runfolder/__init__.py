"""What a training leaves in its folder, for people and their own programs: curves, log, environment, earlier states."""
