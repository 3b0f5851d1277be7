"""`fewshot app`."""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from episodes.errors import UsageError
from fewshot.commands.common import (
    WithClassifier,
    calibration_for,
    check_adaptable,
    classifier_for,
    load_chosen_encoder,
    own_naming,
    texts_for,
)
from fewshot.limits import Within
from fewshot.options import own_fields_first
from fewshot.registry import CLASSIFIERS, COMMANDS

if TYPE_CHECKING:
    from fewshot.adaptation import TaskAdapter
    from fewshot.adaptation.meta import Naming as OwnNaming
    from fewshot.app.server import Server
    from fewshot.classifiers import Classifier
    from fewshot.classifiers.kinds import Calibration
    from fewshot.opening import LoadedEncoder
    from fewshot.predict import Prediction

_FIRST_PORT, _PORTS = 7860, 100


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(WithClassifier):
    """A page to try it on: name a few classes with a picture each, and have other pictures named (needs the extra app)."""

    classifier: Annotated[str | None, tyro.conf.arg(help=(
        f"Chosen at the start: {CLASSIFIERS.describe()}. Unless given, prototype, or the method that a checkpoint was trained with."
    ))] = None  # fmt: skip
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets other machines in, if they know the address with its token."""
    port: Annotated[int, Within(0, 65535)] | None = None
    """The port; the first free one from 7860 unless given."""


@COMMANDS.register(
    "app", "a page in the browser to try it on: pictures of a few classes in, names of others out", position=8
)
def run(options: Options) -> int:
    """Serve the page until it is interrupted; uploads are gone at the end."""
    from fewshot.app.server import import_server
    from fewshot.app.uploads import upload_folder

    import_server()  # before the weights are read: that takes longer
    if hasattr(signal, "SIGHUP"):  # a terminal that is closed: the uploads have to go then, too
        signal.signal(signal.SIGHUP, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    with upload_folder() as folder:
        server = server_of(options, folder)
        with listening_socket(options.host, options.port) as listening:
            serve(server, options.host, listening, secrets.token_urlsafe(24))
    return 0


def serve(server: Server, host: str, listening: socket.socket, token: str) -> None:
    """Say where the page is, and answer until the process is told to stop."""
    shown = f"[{host}]" if ":" in host else host
    print(f"the page is at http://{shown}:{listening.getsockname()[1]}/?token={token}   (Ctrl-C ends it)", flush=True)
    web = web_server(server, host, listening, token)
    logging.getLogger("uvicorn.error").addFilter(_ends_quietly)
    web.run(sockets=[listening])


def _ends_quietly(record: logging.LogRecord) -> bool:
    """Whether a line of the server is worth showing: what it was still doing when the page was ended is no error."""
    kind = record.exc_info[0] if record.exc_info else None
    cancelled = kind is not None and kind.__name__ == "CancelledError"
    return not cancelled and "graceful shutdown exceeded" not in record.getMessage()


def web_server(server: Server, host: str, listening: socket.socket, token: str) -> Any:
    """The `uvicorn.Server` of the page."""
    from fewshot.app.server import import_server

    uvicorn = import_server()
    settings = uvicorn.Config(
        server.application(token, host, listening.getsockname()[1]),
        log_level="error",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(settings)


def listening_socket(host: str, port: int | None) -> socket.socket:
    """A socket that takes connections.

    Args:
        host: where.
        port: which; None takes the first free one from 7860.

    Raises:
        UsageError: there is no such place, or it is taken.
    """
    problem: OSError | None = None
    for candidate in range(_FIRST_PORT, _FIRST_PORT + _PORTS) if port is None else (port,):
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
            listening = socket.socket(family, kind, protocol)
        except OSError as error:
            raise UsageError(f"--host {host}: there is no such place to listen ({error.strerror or error})") from error
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            problem = error
    where = f"--port {port}" if port is not None else f"ports {_FIRST_PORT} to {_FIRST_PORT + _PORTS - 1}"
    raise UsageError(f"{where}: cannot listen on {host} ({problem}); give another --port, or 0 for any")


def server_of(options: Options, folder: Path) -> Server:
    """What answers browsers, which keeps their pictures in `folder`; raises as the library's functions that it calls."""
    from fewshot.app.answering import Naming
    from fewshot.app.server import Server
    from fewshot.classifiers import CLASSIFIER_NAMES

    loaded = load_chosen_encoder(options)
    own = own_naming(dataclasses.replace(options, classifier=None), loaded)
    chosen = options.classifier or (own.name if own else "prototype")
    if own is None or chosen != own.name:
        classifier_for(options, loaded, chosen)  # says at once if it cannot be
    kind = "tuned" if loaded.checkpoint is not None and loaded.checkpoint.tuned else "untouched"
    answerer = Answerer(options, loaded, own)
    heading = f"Encoder: {kind} {loaded.backbone}. Pictures stay on this machine, and are deleted when the app ends."
    if own is not None:
        heading += f" It was trained to name pictures by {own.name}, whose confidence is not calibrated."
    names = (*((own.name,) if own else ()), *CLASSIFIER_NAMES)
    return Server(Naming(answerer.predict, answerer.write), heading, names, chosen, folder)


class Answerer:
    """Names the query pictures of a task with one of the classifiers, or by a checkpoint's own method, as `fewshot predict` does."""

    def __init__(self, options: Options, loaded: LoadedEncoder, own: OwnNaming | None) -> None:
        self._options, self._loaded, self._own = options, loaded, own

    def predict(self, root: Path, classifier: str, progress: Callable[[int, int], None]) -> Prediction:
        """The prediction of the task in `root`."""
        from fewshot.predict import predict

        options, loaded, adapter = self._options, self._loaded, self._adapter(classifier)
        check_adaptable(classifier if adapter else None, loaded.encoder)
        return predict(
            root,
            loaded.encoder,
            self._method(classifier),
            calibration=self._calibration(classifier),
            adapter=adapter,
            seed=options.seed,
            class_text=lambda names: texts_for(options, loaded, [classifier], names),
            find_truth=False,
            precision=options.precision,
            workers=options.workers,
            cache=options.cache,
            progress=progress,
        )

    def write(self, prediction: Prediction, classifier: str, result: Path, report: Path) -> None:
        """Write the CSV and the report of a prediction."""
        from episodes import write_predictions
        from fewshot.report import write_prediction_report

        loaded = self._loaded
        write_predictions(prediction.frame, result)
        write_prediction_report(
            prediction,
            report,
            backbone=loaded.backbone,
            classifier=classifier,
            checkpoint=loaded.checkpoint_name,
            tuned=loaded.checkpoint.tuned if loaded.checkpoint else False,
            calibrated=self._calibration(classifier) is not None,
            method=self._method(classifier) if self._adapter(classifier) is None else None,
        )

    def _of_checkpoint(self, classifier: str) -> OwnNaming | None:
        """The checkpoint's own method, if that is the one."""
        return self._own if self._own is not None and classifier == self._own.name else None

    def _adapter(self, classifier: str) -> TaskAdapter | None:
        own = self._of_checkpoint(classifier)
        return None if own is None else own.adapter

    def _method(self, classifier: str) -> Classifier:
        own = self._of_checkpoint(classifier)
        return classifier_for(self._options, self._loaded, classifier) if own is None else own.classifier

    def _calibration(self, classifier: str) -> Calibration | None:
        return calibration_for(self._options, self._loaded).get(classifier)
