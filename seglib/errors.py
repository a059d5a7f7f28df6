"""Every error a person may see.

    SeglibError
    ├── ConfigError       a setting that cannot work
    ├── DataError         a file, volume or label map that cannot be used
    ├── CheckpointError   a checkpoint that is missing, damaged or of another network
    ├── StoreError        a row that is not there, or a status change that lost a race
    ├── TrainingError     a training that cannot go on, such as one whose loss is not a number
    ├── WorkCancelled     work that the person stopped
    └── OutOfMemory       a job that needed more memory than there is

The message says what was found, what was expected and what to do. Pages show it as it is;
everything that is not a SeglibError is a bug and stays a traceback in the log.
"""


class SeglibError(Exception):
    """Something a person can understand and act on."""


class ConfigError(SeglibError, ValueError):
    """A setting that cannot work."""


class DataError(SeglibError, ValueError):
    """A file, volume or label map that cannot be used."""


class CheckpointError(SeglibError):
    """A checkpoint that is missing, damaged, or of another network."""


class StoreError(SeglibError):
    """A row that is not there, or a status change that lost a race."""


class TrainingError(SeglibError):
    """A training that cannot go on."""


class WorkCancelled(SeglibError):
    """The person stopped what was under way; nothing of it is left."""


class OutOfMemory(SeglibError):
    """A job that needed more memory than there is."""
