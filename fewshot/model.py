"""Few-shot classification in Python, in three lines: `FewShot`.

It is what the commands are made of, under another surface: the same embeddings, cache, classifiers, temperature and rejection.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from episodes import Episode, Score, evaluate, read_class_folders
from episodes.episode import stack_episodes
from episodes.errors import DataError, UsageError
from episodes.files import natural_key
from fewshot.adaptation.in_memory import SteppedInMemory
from fewshot.adaptation.meta import naming
from fewshot.classifiers import CLASSIFIER_NAMES, TEXT, build_classifier, needs
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.rejection import Rejection, known_confidence
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.device import Precision, resolve_device
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import Embeddings, embed_images
from fewshot.encoders.text import class_texts
from fewshot.images.in_memory import Picture, picture_bytes, picture_name, warn_unreadable
from fewshot.opening import open_either
from fewshot.predict import Columns
from fewshot.predict import reject as reject_unsure
from fewshot.run_files import CONFIG
from fewshot.support_files import SUPPORT, SupportNote, read_support, write_support

if TYPE_CHECKING:
    import pandas as pd


class FewShot:
    """An encoder, a few labelled pictures of each class, and a classifier over them.

    The answers are those of `fewshot predict` on a task of the same pictures, to the bit. A picture is a path, a PIL picture, or an
    array (H, W), (H, W, 3) or (H, W, 4) of uint8.
    """

    def __init__(
        self,
        encoder: str | Path = "ViT-B/32",
        *,
        classifier: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        embed_views: int | None = None,
        workers: int | None = None,
        cache: bool = True,
        download_root: str | Path | None = None,
    ) -> None:
        """Open the encoder; its weights are read when a picture is not cached yet.

        Args:
            encoder: a backbone's name (`fewshot doctor` lists those on this machine), or the folder of a checkpoint.
            classifier: one of `fewshot.classifiers.CLASSIFIER_NAMES`; None for prototype, or the method that a checkpoint was trained with.
            device: auto, cpu, cuda, ...
            precision: arithmetic of the encoder, see `fewshot.embed_images`.
            embed_views: views a picture; None for the checkpoint's number, or one.
            workers: threads that decode.
            cache: keep embeddings on disk, where the commands keep theirs.
            download_root: where `fewshot download` put weights.

        Raises:
            UsageError: no such backbone or classifier, or the classifier needs statistics that there are not.
            DataError: weights are missing (the message says what to do) or broken.
        """
        self._cache = EmbeddingCache() if cache else None
        self._source = open_either(
            encoder, resolve_device(device), embed_views=embed_views, download_root=download_root, cache=self._cache
        )
        self._precision, self._workers, self._download_root = precision, workers, download_root
        self._support: dict[str, Tensor] = {}
        self._stepped: SteppedInMemory | None = None
        self._named = classifier or "prototype"
        own = None if classifier else self._own_method()
        self._classifier = own or build_classifier(
            self._named,
            statistics=self._source.statistics if needs(self._named, "statistics") else None,
            encoder=self._source.encoder,
            steps=self._source.steps,
        )

    @classmethod
    def load(cls, path: str | Path, **settings: Any) -> FewShot:
        """Open what `save` wrote, or a checkpoint of `fewshot train` (which has no support pictures yet).

        Args:
            path: the folder.
            **settings: of the constructor, in place of those that were saved.

        Raises:
            DataError: neither of the two, or damaged.
        """
        path = Path(path)
        trained = (path / CONFIG).is_file()
        if not (path / SUPPORT).is_file():
            if not trained:
                raise DataError(
                    f"{path}: expected a folder that FewShot.save or 'fewshot train' made, found neither {SUPPORT} nor {CONFIG}"
                )
            return cls(path, **settings)
        support, note = read_support(path)
        kept: dict[str, Any] = {"precision": note.precision, "embed_views": note.embed_views}
        if note.classifier in CLASSIFIER_NAMES:  # else the checkpoint's own method, which it finds by itself
            kept["classifier"] = note.classifier
        model = cls(path if trained else note.backbone, **{**kept, **settings})
        if model._source.encoder.fingerprint != note.encoder:
            raise DataError(
                f"{path / SUPPORT}: was made with another encoder than {note.backbone} is here; embed its pictures anew: fit again"
            )
        model._support = support
        return model

    def save(self, path: str | Path) -> None:
        """Write the support set, and the checkpoint that its encoder is of, into a folder that `load` opens.

        Raises:
            DataError: the folder cannot be written, or holds another run of 'fewshot train', which is never overwritten.
        """
        source = self._source
        note = SupportNote(
            list(self._support),
            self._named,
            self._precision,
            source.encoder.embed_views,
            source.backbone,
            source.encoder.fingerprint,
        )
        write_support(Path(path), self._support, note, source.checkpoint.path if source.checkpoint else None)

    @property
    def classes_(self) -> tuple[str, ...]:
        """The classes, in the order of `predict_proba`'s columns."""
        return tuple(self._support)

    @property
    def counts(self) -> dict[str, int]:
        """Class -> how many support pictures it has."""
        return {name: len(rows) for name, rows in self._support.items()}

    def fit(self, pictures: Mapping[str, Sequence[Picture]] | str | Path) -> FewShot:
        """Take the labelled pictures, in place of those from before.

        Args:
            pictures: class -> pictures; or a folder of class folders.

        Raises:
            DataError: no pictures, or none of a class can be read.
        """
        if isinstance(pictures, (str, os.PathLike)):
            table = read_class_folders(pictures)
            names = table.class_names
            pictures = {names[label]: [table.items[row] for row in table.rows_of(label)] for label in range(len(names))}
        if not pictures:
            raise DataError("fit: expected pictures of at least one class, found none")
        self._support = self._embed_classes(pictures)
        return self

    def add(self, name: str, pictures: Sequence[Picture]) -> FewShot:
        """Give a class more pictures, or add a new one; nothing else is embedded again.

        Raises:
            DataError: none of them can be read.
        """
        rows = self._embed_classes({name: pictures})[name]
        known = self._support.get(name)
        made = {**self._support, name: rows if known is None else torch.cat([known, rows])}
        self._support = {each: made[each] for each in sorted(made, key=natural_key)}
        return self

    def remove(self, name: str) -> FewShot:
        """Forget a class.

        Raises:
            UsageError: there is none of that name.
        """
        if name not in self._support:
            raise UsageError(f"there is no class {name!r}; there are {', '.join(self._support) or 'none'}")
        del self._support[name]
        return self

    def predict(self, pictures: Sequence[Picture], *, reject: float | None = None) -> list[str]:
        """Name pictures.

        Args:
            pictures: n of them; a transductive classifier looks at all of one call together.
            reject: as `--reject`: "unknown" where a picture of a foreign class would be as sure in all but this share of cases.

        Returns:
            n names; "" for a picture that cannot be read, which a warning names.

        Raises:
            DataError: nothing was fitted, or there are no pictures.
            UsageError: `reject` with an encoder or a classifier whose confidence is not known.
        """
        return [str(label) for label in self.predict_frame(pictures, reject=reject)["label"]]

    def predict_proba(self, pictures: Sequence[Picture]) -> npt.NDArray[np.float32]:
        """(n, N) probabilities, columns in the order of `classes_`; NaN for pictures that cannot be read."""
        task, _, score = self._task(pictures)
        scores: npt.NDArray[np.float32] = score(stack_episodes([task]))[0]
        return np.exp(scores)

    def predict_frame(self, pictures: Sequence[Picture], *, reject: float | None = None) -> pd.DataFrame:
        """What `fewshot predict` writes, and more: image, label, confidence, runner_up, margin; a row for every picture.

        The margin is the confidence less that of the runner-up: the smaller, the more worth a look. Arguments and errors are
        those of `predict`.
        """
        import pandas as pd

        known = self._source.calibration.get(self._named)
        if reject is not None:
            known = known_confidence(known, self._named)
            known.check_rate(reject)
        task, embeddings, score = self._task(pictures)
        results = evaluate([task], score, runners_up=True)
        assert results.runner_up is not None and results.margin is not None  # asked for
        names = np.array([*results.vocabulary, ""], dtype=object)
        columns: Columns = {
            "image": [picture_name(picture, number) for number, picture in enumerate(pictures)],
            "label": names[results.predicted],
            "confidence": results.confidence,
            "runner_up": names[results.runner_up],
            "margin": results.margin,
        }
        if reject is not None and known is not None:
            columns = reject_unsure(
                columns, Rejection.of(reject, known, [task], embeddings).thresholds[results.episode]
            )
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        classes = ", ".join(f"{name} ({count})" for name, count in list(self.counts.items())[:8])
        more = f", and {len(self._support) - 8} more" if len(self._support) > 8 else ""
        kind = "untouched" if self._source.checkpoint is None else str(self._source.checkpoint.path)
        return f"<FewShot of {self._source.backbone} ({kind}), {self._named}: {classes + more or 'nothing fitted'}>"

    def _own_method(self) -> Classifier | None:
        """What the checkpoint's own method names queries by; None where that is prototypes.

        Raises:
            UsageError: the method steps the encoder on every task, and pictures are to be embedded in several views.
        """
        checkpoint, encoder = self._source.checkpoint, self._source.encoder
        method = checkpoint.own_method if checkpoint is not None else None
        if checkpoint is None or method is None:
            return None
        self._named = method.name
        if method.steps_encoder:
            if encoder.embed_views > 1:
                raise UsageError(
                    f"{checkpoint.path}: its method, {method.name}, steps the encoder on every task and works with one view a picture, "
                    f"not with embed_views={encoder.embed_views}: leave that out"
                )
            self._stepped = SteppedInMemory(method, checkpoint.scale, encoder, self._precision, picture_bytes)
        return naming(method, checkpoint.scale).classifier

    def _embed(self, pictures: Sequence[Picture]) -> Embeddings:
        """Rows of pictures: embeddings, and behind them what a method that steps the encoder needs."""
        found = embed_images(
            self._source.encoder,
            list(pictures),
            precision=self._precision,
            workers=self._workers,
            cache=self._cache,
            read=picture_bytes,
        )
        return found if self._stepped is None else self._stepped.rows(pictures, found)

    def _embed_classes(self, pictures: Mapping[str, Sequence[Picture]]) -> dict[str, Tensor]:
        """Class -> (k, ...) rows of its readable pictures, in the order of names."""
        names = sorted(pictures, key=natural_key)
        everything = [picture for name in names for picture in pictures[name]]
        if not everything:
            raise DataError(f"class {names[0]!r} has no pictures; give it at least one")
        found = self._embed(everything)
        warn_unreadable(everything, found.problems)
        support, start = {}, 0
        for name in names:
            part = slice(start, start + len(pictures[name]))
            support[name], start = found.features[part][found.readable[part]], part.stop
            if not len(support[name]):
                raise DataError(f"class {name!r} has no picture that can be read; give it at least one")
        return support

    def _task(self, pictures: Sequence[Picture]) -> tuple[Episode, Embeddings, Score]:
        """The task of naming n pictures, the embeddings that its rows are of, and what scores it."""
        if not self._support:
            raise DataError("nothing was fitted: call fit with labelled pictures first")
        if len(pictures) == 0:
            raise DataError("there are no pictures to name")
        query = self._embed(pictures)
        warn_unreadable(pictures, query.problems)
        support = self._support_rows(query.features.shape[1])
        counts = [len(rows) for rows in self._support.values()]
        everything = Embeddings(
            torch.cat([support, query.features]),
            torch.cat([torch.ones(len(support), dtype=torch.bool), query.readable]),
            {},
            query.computed,
        )
        labels = np.repeat(np.arange(len(counts)), counts)
        rows = np.arange(len(everything.features))
        task = Episode("pictures", self.classes_, rows[: len(support)], labels, rows[len(support) :])
        if self._stepped is not None:
            return task, everything, self._stepped.scorer(everything)
        score = FeatureScorer(
            everything,
            self._classifier,
            class_text=self._texts(),
            calibration=self._source.calibration.get(self._named),
            device=self._source.encoder.device,
        )
        return task, everything, score

    def _support_rows(self, width: int) -> Tensor:
        """(S, width) rows of the support pictures, class after class.

        Raises:
            DataError: they were saved for embeddings alone, and the method needs more.
        """
        rows = torch.cat(list(self._support.values()))
        rows = rows[:, :width]  # saved for a method, named by a classifier: embeddings are enough
        if rows.shape[1] < width:
            raise DataError(
                f"the support set was saved for a classifier, not for {self._named}: fit its pictures again"
            )
        return rows

    def _texts(self) -> dict[str, Tensor] | None:
        if self._named not in TEXT:
            return None
        return class_texts(
            self.classes_, self._source.backbone, device=self._source.encoder.device, download_root=self._download_root
        )
