"""What keeps a training from going on."""

from loop.errors import SpinodalError


class TrainingError(SpinodalError):
    """A training that cannot go on; its module has the last good averaged weights."""
