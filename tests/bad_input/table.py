"""All cases, in the order of the page."""

from tests.bad_input import files, folders, measuring, training, weights

GROUPS = (
    folders.TASKS,
    folders.LOOSE,
    folders.CLASSES,
    training.SETTINGS,
    training.RESUMING,
    measuring.EVALUATING,
    measuring.MAKING,
    measuring.LEARNING,
    files.SCORE,
    files.OUTPUTS,
    files.SETTINGS,
    weights.CHECKPOINTS,
    weights.WEIGHTS,
    weights.CACHE,
)
