"""The page over HTTP: what a browser asks for, and what a workspace makes of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from episodes.decoding import UnreadableImage, read_bytes
from episodes.errors import DataError, UsageError
from fewshot.app.answering import Named, Naming
from fewshot.app.guard import App, Guard, is_loopback
from fewshot.app.naming import write_task
from fewshot.app.requests import as_json, body_of, edit, text_of, told
from fewshot.app.thumbnail import TYPE, thumbnail
from fewshot.app.workspace import MOST_BYTES, Workspace

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

STATIC = Path(__file__).parent / "static"


class Server:
    """The application: a workspace for every visitor, one encoder for all."""

    def __init__(self, naming: Naming, heading: str, classifiers: Sequence[str], classifier: str, folder: Path) -> None:
        """Store what the page offers.

        Args:
            naming: names a workspace's pictures.
            heading: says which encoder.
            classifiers: to choose from.
            classifier: chosen at the start.
            folder: where visitors' pictures go.
        """
        self._naming, self._folder = naming, folder
        self._offer = {"heading": heading, "classifiers": list(classifiers), "classifier": classifier}
        self._workspaces: dict[str, Workspace] = {}
        self._named: dict[str, Named] = {}
        self._lock = threading.Lock()
        self._disk = False

    def application(self, token: str, host: str, port: int) -> App:
        """The guarded ASGI application. Folders of this machine are read and written only where nobody else can ask for it.

        Raises:
            UsageError: starlette is not installed.
        """
        import_server()
        from starlette.applications import Starlette
        from starlette.routing import Route

        self._disk = is_loopback(host)
        handlers: dict[Any, Any] = {UsageError: told, DataError: told, OSError: told}
        routes = [
            Route("/", _file("index.html", "text/html")),
            Route("/app.js", _file("app.js", "text/javascript")),
            Route("/app.css", _file("app.css", "text/css")),
            Route("/api/state", self._state),
            Route("/api/progress", self._progress),
            Route("/api/upload", self._upload, methods=["PUT"]),
            Route("/api/edit", self._edit, methods=["POST"]),
            Route("/api/load", self._load, methods=["POST"]),
            Route("/api/name", self._name, methods=["POST"]),
            Route("/api/export", self._export, methods=["POST"]),
            Route("/testB.zip", self._zip),
            Route("/picture/{number:int}", self._picture),
            Route("/result.csv", self._result),
            Route("/report.html", self._report),
        ]
        return Guard(Starlette(routes=routes, exception_handlers=handlers), token, host, port)

    def _workspace(self, request: Request) -> Workspace:
        visitor = request.scope["visitor"]
        with self._lock:
            if visitor not in self._workspaces:
                self._workspaces[visitor] = Workspace(Path(mkdtemp(dir=self._folder)))
            return self._workspaces[visitor]

    def _document(self, request: Request) -> dict[str, Any]:
        named = self._named.get(request.scope["visitor"])
        return {
            **self._offer,
            **self._workspace(request).document,
            "disk": self._disk,
            "named": None if named is None else named.document,
        }

    def _state(self, request: Request) -> Response:
        return as_json(self._document(request))

    def _progress(self, request: Request) -> Response:
        done, total = self._naming.progress
        return as_json({"done": done, "total": total})

    async def _upload(self, request: Request) -> Response:
        """One picture: the body is its bytes. What does not fit is refused before it is read, or while it is."""
        from starlette.concurrency import run_in_threadpool

        workspace, asked = self._workspace(request), request.query_params
        size = int(request.headers.get("content-length", "0") or 0)
        workspace.check_room(1, size)
        path = workspace.upload_path()
        written = 0
        try:
            with path.open("xb") as file:
                async for chunk in request.stream():
                    written += len(chunk)
                    if written > MOST_BYTES:
                        raise UsageError(f"the picture has more than the {MOST_BYTES:,} bytes that the page takes")
                    file.write(chunk)
            picture = await run_in_threadpool(workspace.add_upload, asked.get("class"), asked.get("name", ""), path)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):  # the place of uploads is nobody's business
                raise DataError(
                    f"the picture cannot be kept ({error.strerror or error}): make room for temporary files, or start the app with "
                    "another TMPDIR"
                ) from error
            raise
        return as_json({"id": picture.id, "name": picture.name, "problem": picture.problem})

    async def _edit(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        asked = await body_of(request)
        await run_in_threadpool(edit, self._workspace(request), asked)
        return as_json(self._document(request))

    async def _load(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        asked = await body_of(request)
        self._need_disk()
        path, task = text_of(asked, "path"), asked.get("task")
        if not path:
            raise UsageError("which folder? Give the path of class folders, or of a directory of tasks")
        tasks = await run_in_threadpool(self._workspace(request).load, path, str(task) if task else None)
        return as_json({**self._document(request), "tasks": tasks})

    async def _name(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        classifier = text_of(await body_of(request), "classifier")
        if classifier not in self._offer["classifiers"]:
            raise UsageError(f"there is no classifier {classifier!r}")
        named = await run_in_threadpool(self._naming, self._workspace(request), classifier)
        self._named[request.scope["visitor"]] = named
        return as_json(self._document(request))

    async def _export(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        asked = await body_of(request)
        self._need_disk()
        target = Path(text_of(asked, "path")).expanduser()
        if not text_of(asked, "path") or target.exists():
            raise UsageError(f"{target}: give the path of a new folder; this one is there already" if text_of(asked, "path") else
                             "where to? Give the path of a new folder")  # fmt: skip
        await run_in_threadpool(export, self._workspace(request), target)
        return as_json({"written": str(target / "testB")})

    def _zip(self, request: Request) -> Response:
        from starlette.background import BackgroundTask
        from starlette.responses import FileResponse

        workspace = self._workspace(request)
        folder = Path(mkdtemp(dir=workspace.folder))
        try:
            export(workspace, folder / "export")
            archive = shutil.make_archive(str(folder / "testB"), "zip", folder / "export", "testB")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        gone = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(archive, media_type="application/zip", filename="testB.zip", background=gone)

    def _picture(self, request: Request) -> Response:
        from starlette.responses import Response

        picture = self._workspace(request).pictures.get(request.path_params["number"])
        if picture is None:
            return Response(status_code=404)
        try:
            return Response(thumbnail(read_bytes(picture.path)), media_type=TYPE)
        except UnreadableImage as error:
            return as_json({"error": str(error)}, 422)

    def _result(self, request: Request) -> Response:
        return self._written(request, "result", "text/csv; charset=utf-8", "result.csv")

    def _report(self, request: Request) -> Response:
        return self._written(request, "report", "text/html; charset=utf-8", None)

    def _written(self, request: Request, which: str, kind: str, name: str | None) -> Response:
        from starlette.responses import FileResponse

        named = self._named.get(request.scope["visitor"])
        if named is None:
            raise UsageError("nothing has been named yet")
        return FileResponse(getattr(named, which), media_type=kind, filename=name)

    def _need_disk(self) -> None:
        if not self._disk:
            raise UsageError(
                "folders are read and written only where the page is for this machine alone (without --host)"
            )


def export(workspace: Workspace, target: Path) -> None:
    """Write a workspace as `target`/testB/<task>, copies of its pictures; nothing is left where that fails.

    Raises:
        UsageError: fewer than two classes with pictures, or nothing to name.
    """
    with workspace.lock:
        classes = {name: workspace.files(ids) for name, ids in workspace.classes.items()}
        try:
            write_task(target / "testB" / workspace.task_name, classes, workspace.files(workspace.queries), copy=True)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def import_server() -> Any:
    """The package uvicorn.

    Raises:
        UsageError: it or starlette is not installed.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UsageError(
            f"the page needs starlette and uvicorn, of which one cannot be imported ({error}). Install them with: "
            "pip install 'fewshot-episodes[app]', or pip install starlette uvicorn"
        ) from error
    return uvicorn


def _file(name: str, kind: str) -> Any:
    def serve(request: Request) -> Response:
        from starlette.responses import FileResponse

        return FileResponse(STATIC / name, media_type=f"{kind}; charset=utf-8")

    return serve
