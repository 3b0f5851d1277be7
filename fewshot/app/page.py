"""The page itself, in gradio: classes with their pictures on the left, pictures to name and their names on the right."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from episodes.errors import DataError, UsageError
from fewshot.app.naming import Chosen, answers, checked_name, example, write_task
from fewshot.predict import Prediction

# What answers: (folder of the task, name of the classifier) -> the prediction, and the report and CSV that it wrote.
Answer = Callable[[Path, str], tuple[Prediction, Path, Path]]
_FONTS = ["system-ui", "sans-serif"]  # gradio's own theme would fetch fonts from elsewhere


def build_page(answer: Answer, heading: str, classifiers: Sequence[str], classifier: str, folder: Path) -> Any:
    """The page as `gradio.Blocks`.

    Args:
        answer: names the query pictures of a task.
        heading: says which encoder.
        classifiers: to choose from.
        classifier: chosen at the start.
        folder: where tasks and their results go.

    Raises:
        UsageError: gradio is not installed.
    """
    gradio = import_gradio()
    actions = _Actions(gradio, answer, folder)
    with gradio.Blocks(title="fewshot", analytics_enabled=False) as page:
        gradio.Markdown(f"## Few-shot image classification\n{heading}")
        classes = gradio.State({})
        with gradio.Row():
            with gradio.Column():
                gradio.Markdown(
                    "**1.** Name a class, choose a picture of it or a few, add it; the same again for each class."
                )
                name = gradio.Textbox(label="Class", placeholder="oak")
                files = gradio.File(label="Its pictures", file_count="multiple", file_types=["image"], height=120)
                with gradio.Row():
                    add_class = gradio.Button("Add class")
                    start_over = gradio.Button("Start over")
                    show_example = gradio.Button("Example: five characters")
                support = gradio.Gallery(label="Classes", columns=4, height=320, object_fit="contain")
            with gradio.Column():
                gradio.Markdown("**2.** Choose the pictures to name.")
                queries = gradio.File(label="Pictures to name", file_count="multiple", file_types=["image"], height=120)
                method = gradio.Dropdown(list(classifiers), value=classifier, label="Classifier")
                go = gradio.Button("Name them", variant="primary")
                named = gradio.Gallery(label="Answers, with confidence", columns=3, height=320, object_fit="contain")
                written = gradio.File(label="As CSV, and as a report", file_count="multiple", interactive=False)
        add_class.click(actions.add, [classes, name, files], [classes, support, name, files], api_name="add")
        show_example.click(actions.draw, [], [classes, support, queries], api_name="example")
        start_over.click(
            lambda: ({}, [], None, [], None), [], [classes, support, queries, named, written], api_name="clear"
        )
        go.click(actions.name, [classes, queries, method], [named, written], api_name="name")
    return page


class _Actions:
    """What the buttons do; what they return goes into the page's parts in the order that `build_page` names."""

    def __init__(self, gradio: Any, answer: Answer, folder: Path) -> None:
        self._gradio, self._answer, self._folder = gradio, answer, folder

    def add(self, classes: Chosen, name: str, files: list[str] | None) -> tuple[Any, ...]:
        """One more class, or more pictures of one."""
        with _told(self._gradio):
            name = checked_name(name or "")
            if not files:
                raise UsageError(f"class {name!r} has no pictures: choose one or more")
        classes = {**classes, name: [*classes.get(name, []), *files]}
        return classes, _shown(classes), "", None

    def draw(self) -> tuple[Any, ...]:
        """The example in place of what was chosen."""
        classes, queries = example(Path(mkdtemp(dir=self._folder)))
        return classes, _shown(classes), queries

    def name(self, classes: Chosen, queries: list[str] | None, method: str) -> tuple[Any, ...]:
        """The answers, and the files that hold them."""
        with _told(self._gradio):
            task = write_task(Path(mkdtemp(dir=self._folder)), classes, queries or [])
            prediction, report, result = self._answer(task, method)
        return answers(prediction, queries or []), [str(result), str(report)]


def theme() -> Any:
    """Gradio's own, with fonts of this machine."""
    return import_gradio().themes.Default(font=_FONTS, font_mono=["monospace"])


def import_gradio() -> Any:
    """gradio, which sends nothing anywhere.

    Raises:
        UsageError: it is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise UsageError(
            f"the page needs gradio, which cannot be imported ({error}). Install it with: pip install 'gradio>=6'"
        ) from error
    return gradio


def _shown(classes: Chosen) -> list[tuple[str, str]]:
    return [(str(path), name) for name, paths in classes.items() for path in paths]


class _told:
    """Turns what is wrong with the input into a message on the page."""

    def __init__(self, gradio: Any) -> None:
        self._gradio = gradio

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UsageError | DataError):
            raise self._gradio.Error(str(error), duration=None, print_exception=False) from error
