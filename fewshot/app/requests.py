"""What a browser may ask for: the JSON of a request, the changes that it can name, and how an answer or an error goes back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from episodes.errors import UsageError
from fewshot.app.workspace import Workspace

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_MOST_BODY = 1 << 20  # of a request that is no picture


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
        "add-class": lambda: workspace.add_class(text_of(asked, "name")),
        "rename-class": lambda: workspace.rename_class(text_of(asked, "class"), text_of(asked, "name")),
        "remove-class": lambda: workspace.remove_class(text_of(asked, "class")),
        "move": lambda: workspace.move(ids, None if place is None else str(place)),
        "remove": lambda: workspace.remove(ids),
        "clear": workspace.clear,
        "example": workspace.draw_example,
    }
    change: Any = changes.get(text_of(asked, "do"))
    if change is None:
        raise UsageError(f"there is no change {asked.get('do')!r}")
    change()


async def body_of(request: Request) -> dict[str, Any]:
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


def text_of(asked: dict[str, Any], key: str) -> str:
    """A text out of a request; '' where it has none there."""
    value = asked.get(key, "")
    return value if isinstance(value, str) else ""


def told(request: Request, error: Exception) -> Response:
    """What is wrong with the input, as a message for the page."""
    return as_json({"error": str(error)}, 400)


def as_json(value: Any, status: int = 200) -> Response:
    """A value as the answer to a request."""
    from starlette.responses import JSONResponse

    return JSONResponse(value, status)
