"""The page over HTTP: what a browser asks for, and what a workspace makes of it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from episodes.errors import DataError, UsageError
from fewshot.app.answering import Named, Naming
from fewshot.app.guard import App, Guard, is_loopback
from fewshot.app.naming import write_task
from fewshot.app.thumbnail import TYPE, thumbnail
from fewshot.app.workspace import MOST_BYTES, Workspace
from fewshot.images.decoding import UnreadableImage, read_bytes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
_MOST_BODY = 1 << 20  # of a request that is no picture


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
        handlers: dict[Any, Any] = {UsageError: _told, DataError: _told, OSError: _told}
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
        return _json(self._document(request))

    def _progress(self, request: Request) -> Response:
        done, total = self._naming.progress
        return _json({"done": done, "total": total})

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
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return _json({"id": picture.id, "name": picture.name, "problem": picture.problem})

    async def _edit(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        asked = await _body(request)
        await run_in_threadpool(edit, self._workspace(request), asked)
        return _json(self._document(request))

    async def _load(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        asked = await _body(request)
        self._need_disk()
        path, task = _text(asked, "path"), asked.get("task")
        if not path:
            raise UsageError("which folder? Give the path of class folders, or of a directory of tasks")
        tasks = await run_in_threadpool(self._workspace(request).load, path, str(task) if task else None)
        return _json({**self._document(request), "tasks": tasks})

    async def _name(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        classifier = _text(await _body(request), "classifier")
        if classifier not in self._offer["classifiers"]:
            raise UsageError(f"there is no classifier {classifier!r}")
        named = await run_in_threadpool(self._naming, self._workspace(request), classifier)
        self._named[request.scope["visitor"]] = named
        return _json(self._document(request))

    async def _export(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        asked = await _body(request)
        self._need_disk()
        target = Path(_text(asked, "path")).expanduser()
        if not _text(asked, "path") or target.exists():
            raise UsageError(f"{target}: give the path of a new folder; this one is there already" if _text(asked, "path") else
                             "where to? Give the path of a new folder")  # fmt: skip
        await run_in_threadpool(export, self._workspace(request), target)
        return _json({"written": str(target / "testB")})

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
            return _json({"error": str(error)}, 422)

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


def edit(workspace: Workspace, asked: dict[str, Any]) -> None:
    """One change of a workspace, by its name in `asked["do"]`.

    Raises:
        UsageError: there is no such change, or it cannot be made.
    """
    ids = asked.get("ids", [])
    if not isinstance(ids, list) or not all(isinstance(number, int) for number in ids):
        raise UsageError("ids are numbers of pictures")
    place = asked.get("class")
    changes = {
        "add-class": lambda: workspace.add_class(_text(asked, "name")),
        "rename-class": lambda: workspace.rename_class(_text(asked, "class"), _text(asked, "name")),
        "remove-class": lambda: workspace.remove_class(_text(asked, "class")),
        "move": lambda: workspace.move(ids, None if place is None else str(place)),
        "remove": lambda: workspace.remove(ids),
        "clear": workspace.clear,
        "example": workspace.draw_example,
    }
    change: Any = changes.get(_text(asked, "do"))
    if change is None:
        raise UsageError(f"there is no change {asked.get('do')!r}")
    change()


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


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        UsageError: it is too long, or none.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MOST_BODY:
            raise UsageError("the request is too long")
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError("the request is no JSON object")
    return found


def _text(asked: dict[str, Any], key: str) -> str:
    value = asked.get(key, "")
    return value if isinstance(value, str) else ""


def _told(request: Request, error: Exception) -> Response:
    """What is wrong with the input, as a message for the page."""
    return _json({"error": str(error)}, 400)


def _json(value: Any, status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(value, status)
