"""`fewshot learn`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from episodes.errors import UsageError
from episodes.files import display_name
from fewshot.commands.common import WithEncoder, load_chosen_encoder, print_json, weights_file
from fewshot.commands.outputs import check_outputs
from fewshot.options import own_fields_first
from fewshot.registry import COMMANDS

if TYPE_CHECKING:
    from fewshot.classifiers.learning import Domain
    from fewshot.opening import LoadedEncoder


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(WithEncoder):
    """Learn the steps of the classifier 'learned' for an encoder, from class folders; the encoder stays as it is."""

    data_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA_DIR")]
    """Class folders, of one kind of picture or several: not those that you will measure on."""
    output: Path | None = None
    """Where the steps go, FILE.json; beside a checkpoint, which then uses them, unless given."""


@COMMANDS.register(
    "learn", "learn the steps of the classifier 'learned' for an encoder, from class folders", position=7
)
def run(options: Options) -> int:
    """Embed, learn, write; 3 where some picture could not be read."""
    from fewshot.classifiers.learning import learn_steps
    from fewshot.run_files import LEARNED

    if not options.data_dirs:
        raise UsageError("expected DATA_DIR: class folders to learn from, one or several; found none")
    if options.checkpoint is None and options.output is None:
        raise UsageError("without a --checkpoint the steps need a file of their own: give --output FILE.json")
    loaded = load_chosen_encoder(options)
    output = options.output or Path(str(options.checkpoint)) / LEARNED
    check_outputs({"--output": output}, (*options.data_dirs, options.checkpoint, weights_file(options)))
    domains = [_domain(options, loaded, folder) for folder in options.data_dirs]
    names = ", ".join(display_name(str(folder)) for folder in options.data_dirs)
    with options.console.bar("episodes") as advance:
        steps = learn_steps(domains, names, seed=options.seed, progress=advance)
    steps.write(output)
    unreadable = sum(len(domain.embeddings.problems) for domain in domains)
    if options.json:
        print_json({"output": str(output), "learned_on": steps.learned_on, "unreadable": unreadable})
    elif options.output is None:
        print(f"{output}: used by --classifier learned with --checkpoint {shlex.quote(str(options.checkpoint))}")
    else:
        print(f"{output}: used by --classifier learned --learned {shlex.quote(str(output))}")
    return 3 if unreadable else 0


def _domain(options: Options, loaded: LoadedEncoder, folder: Path) -> Domain:
    """A folder's embedded pictures, at most 10,000; unreadable ones are named, and take no part."""
    from episodes import read_class_folders
    from episodes.errors import DataError
    from fewshot.classifiers.learning import Domain
    from fewshot.classifiers.statistics import select_rows
    from fewshot.embedding.embed import embed_images

    whole = read_class_folders(folder)
    table = whole.select_rows(select_rows(whole, options.seed))
    with options.console.bar(display_name(str(folder))) as advance:
        embeddings = embed_images(
            loaded.encoder,
            table.items,
            precision=options.precision,
            workers=options.workers,
            cache=options.cache,
            progress=advance,
        )
    for path, problem in zip(table.paths(embeddings.problems), embeddings.problems.values(), strict=True):
        options.console.warn(f"{display_name(path)}: cannot be read ({problem}); it takes no part")
    if not bool(embeddings.readable.any()):
        raise DataError(
            f"{display_name(str(folder))}: no picture can be read (named above). Mend them, or give another folder"
        )
    if embeddings.problems and options.strict:
        raise DataError(f"{folder}: pictures cannot be read (named above). Mend or remove them, or go without --strict")
    return Domain(display_name(str(folder)), embeddings, table)
