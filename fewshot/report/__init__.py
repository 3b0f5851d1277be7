"""Reports: what was predicted or evaluated as one HTML page, and how a training run went as a picture.

Names are imported when first used: a page needs jinja2, a picture matplotlib, and neither is needed elsewhere.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.report.evaluation import write_evaluation_report as write_evaluation_report
    from fewshot.report.page import write_prediction_report as write_prediction_report
    from fewshot.report.plots import plot_episode as plot_episode
    from fewshot.report.plots import plot_reliability as plot_reliability
    from fewshot.report.plots import plot_shots as plot_shots
    from fewshot.report.training import plot_training as plot_training
    from fewshot.report.training import write_training_plot as write_training_plot

_HOME = {
    "plot_episode": "fewshot.report.plots",
    "plot_reliability": "fewshot.report.plots",
    "plot_shots": "fewshot.report.plots",
    "plot_training": "fewshot.report.training",
    "write_evaluation_report": "fewshot.report.evaluation",
    "write_prediction_report": "fewshot.report.page",
    "write_training_plot": "fewshot.report.training",
}

__all__ = [
    "plot_episode",
    "plot_reliability",
    "plot_shots",
    "plot_training",
    "write_evaluation_report",
    "write_prediction_report",
    "write_training_plot",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
