"""Whether a run keeps what its frozen blocks compute, where, and what it says about it."""

from __future__ import annotations

import shutil
from pathlib import Path

from episodes import ImageTable
from episodes.errors import DataError
from fewshot.config import TrainConfig
from fewshot.console import Console
from fewshot.embedding.cache import default_cache_path
from fewshot.embedding.hidden_states import (
    HiddenStates,
    HiddenStatesKey,
    hidden_like,
    hidden_states_bytes,
    hidden_states_key,
)
from fewshot.embedding.hidden_states_compute import compute_hidden_states
from fewshot.embedding.hidden_states_store import room, stored_hidden_states
from fewshot.encoders.base import VisionEncoder
from fewshot.images.augmented_views import PictureSource

PAYS = 1.2  # a pass for the cache must stand for this many passes of training: it decodes, encodes and writes


class HiddenStateCache:
    """The trunks of one run: below the cache of embeddings, or with `no_cache` in the run's folder until it ends."""

    def __init__(
        self, config: TrainConfig, encoder: VisionEncoder, workers: int, folder: Path, console: Console
    ) -> None:
        """Find the folder; nothing is computed yet.

        Args:
            config: of the run.
            encoder: untouched, with its unfrozen part marked.
            workers: processes that load pictures.
            folder: of the run.
            console: says what is kept, and why.
        """
        self._config, self._encoder, self._workers, self._console = config, encoder, workers, console
        self._own = folder / "trunks" if config.no_cache else None
        self._root = self._own or default_cache_path().parent / "trunks"
        self._training_key: HiddenStatesKey | None = None

    def of_plain(self, table: ImageTable) -> HiddenStates | None:
        """Of pictures as they are classified; None if no block is frozen, without room, when off, or with several views."""
        encoder = self._encoder
        if (
            encoder.embed_views > 1
            or self._config.trunk_cache == "off"
            or not encoder.stem_frozen
            or encoder.n_frozen == 0
        ):
            return None
        key = hidden_states_key(encoder, table.items, precision=self._config.precision)
        stored = stored_hidden_states(self._root, key, encoder.n_frozen)
        if stored is not None and stored.n_frozen == encoder.n_frozen:
            return stored
        need = hidden_states_bytes(key, hidden_like(encoder, encoder.n_frozen, key.precision))
        if need > room(self._root):
            self._console.line(
                f"{len(table)} pictures go through the whole encoder each time: their trunk would need {_size(need)} of disk"
            )
            return None
        return self._make(key, encoder.n_frozen, PictureSource(table.items, encoder.image_size, None), "pictures")

    def decide(self, table: ImageTable, passes: int, seed: int) -> int | None:
        """Behind how many blocks training is to start from stored hidden states; None: from pictures. Says why.

        Args:
            table: of training.
            passes: pictures that the whole run trains on.
            seed: of the views.

        Raises:
            DataError: the cache is asked for and does not fit.
        """
        config, encoder = self._config, self._encoder
        if config.views is None or config.trunk_cache == "off" or not encoder.stem_frozen:
            return None
        key = self.training_key(table, seed)
        stored = stored_hidden_states(self._root, key, encoder.n_frozen)
        if stored is not None and (stored.n_frozen == encoder.n_frozen or config.trunk_cache == "auto"):
            self._console.line(f"trunk cache: {stored.path}, behind block {stored.n_frozen}, from an earlier run")
            return stored.n_frozen
        like = hidden_like(encoder, encoder.n_frozen, key.precision)
        need, free = hidden_states_bytes(key, like), room(self._root)
        self._console.line(
            f"trunk cache: {len(table)} pictures x {config.views} views behind block {encoder.n_frozen}, {like.dtype} as computed: "
            f"{_size(need)} of disk at {self._root} ({_size(free)} may be used)"
        )
        if need > free:
            if config.trunk_cache == "on":
                raise DataError(
                    f"{self._root}: the trunk cache needs {_size(need)}, {_size(free)} may be used. Make room, name another place with "
                    "$FEWSHOT_CACHE, lower --views, or use --trunk_cache off"
                )
            self._console.line("  not used: it does not fit; training goes through the whole encoder")
            return None
        if config.trunk_cache == "auto" and passes < PAYS * len(table) * config.views:
            self._console.line(
                f"  not used: it would not pay, the run trains on {passes} pictures only (--trunk_cache on insists)"
            )
            return None
        return encoder.n_frozen

    def of_training(self, table: ImageTable, blocks: int, key: HiddenStatesKey, seed: int) -> HiddenStates:
        """The stored trunk behind `blocks` blocks; it is computed if it is not there yet."""
        config, size = self._config, self._encoder.image_size
        stored = stored_hidden_states(self._root, key, blocks)
        if stored is not None and stored.n_frozen == blocks:
            return stored
        source = PictureSource(table.items, size, config.augmentation, views=config.views, seed=seed)
        return self._make(key, blocks, source, "training")

    def clean(self) -> None:
        """Remove what only this run needed."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def training_key(self, table: ImageTable, seed: int) -> HiddenStatesKey:
        """The key of training's views; reads every picture the first time."""
        if self._training_key is None:
            config = self._config
            self._training_key = hidden_states_key(
                self._encoder,
                table.items,
                views=config.views,
                augmentation=config.augmentation,
                seed=seed,
                precision=config.precision,
            )
        return self._training_key

    def _make(self, key: HiddenStatesKey, blocks: int, source: PictureSource, what: str) -> HiddenStates:
        with self._console.bar(f"frozen trunk on {what}") as advance:
            return compute_hidden_states(
                self._root, key, blocks, self._encoder, source, workers=self._workers, progress=advance
            )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
