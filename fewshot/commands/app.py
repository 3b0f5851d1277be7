"""`fewshot app`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fewshot.commands.common import WithClassifier, calibration_for, load_chosen_encoder, statistics_for, texts_for
from fewshot.limits import Within
from fewshot.options import own_fields_first
from fewshot.registry import CLASSIFIERS, COMMANDS

if TYPE_CHECKING:
    from fewshot.commands.common import LoadedEncoder
    from fewshot.predict import Prediction


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(WithClassifier):
    """A page to try it on: name a few classes with a picture each, and have other pictures named (needs the extra app)."""

    classifier: Annotated[str, tyro.conf.arg(help=f"Chosen at the start: {CLASSIFIERS.describe()}.")] = "prototype"
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Within(0, 65535)] | None = None
    """The port; the first free one from 7860 unless given."""


@COMMANDS.register(
    "app", "a page in the browser to try it on: pictures of a few classes in, names of others out", position=8
)
def run(options: Options) -> int:
    """Serve the page until it is interrupted."""
    with TemporaryDirectory(prefix="fewshot-app-") as folder:
        return _serve(options, page_of(options, Path(folder)))


def _serve(options: Options, page: Any) -> int:
    from fewshot.app.page import theme

    _, url, _ = page.launch(
        server_name=options.host,
        server_port=options.port,
        theme=theme(),
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        footer_links=[],
    )
    print(f"the page is at {url}   (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)
    return 0


def page_of(options: Options, folder: Path) -> Any:
    """The page, which keeps its tasks in `folder`; raises as the library's functions that it calls."""
    from fewshot.app.page import build_page, import_gradio
    from fewshot.classifiers import CLASSIFIER_NAMES, build_classifier

    import_gradio()  # before the weights are read: that takes longer
    loaded = load_chosen_encoder(options)
    build_classifier(options.classifier, statistics=statistics_for(options, loaded))  # says at once if it cannot be
    kind = "tuned" if loaded.checkpoint is not None and loaded.checkpoint.tuned else "untouched"
    heading = f"Encoder: {kind} {loaded.backbone}"
    return build_page(Answerer(options, loaded), heading, CLASSIFIER_NAMES, options.classifier, folder)


class Answerer:
    """Names the query pictures of a task with one of the classifiers, as `fewshot predict` does."""

    def __init__(self, options: Options, loaded: LoadedEncoder) -> None:
        self._options, self._loaded = options, loaded

    def __call__(self, task: Path, classifier: str) -> tuple[Prediction, Path, Path]:
        """The prediction, and the report and the CSV of it beside the task."""
        from episodes import write_predictions
        from fewshot.classifiers import build_classifier
        from fewshot.predict import predict
        from fewshot.report import write_prediction_report

        options, loaded = self._options, self._loaded
        known = calibration_for(options, loaded).get(classifier)
        method = build_classifier(classifier, statistics=statistics_for(options, loaded))
        prediction = predict(
            task,
            loaded.encoder,
            method,
            calibration=known,
            seed=options.seed,
            class_text=lambda names: texts_for(options, loaded, [classifier], names),
            find_truth=False,
            precision=options.precision,
            workers=options.workers,
            cache=options.cache,
        )
        report, result = task / "report.html", task / "result.csv"
        write_predictions(prediction.frame, result)
        write_prediction_report(
            prediction,
            report,
            backbone=loaded.backbone,
            classifier=classifier,
            checkpoint=loaded.checkpoint_name,
            tuned=loaded.checkpoint.tuned if loaded.checkpoint else False,
            calibrated=known is not None,
        )
        return prediction, report, result
