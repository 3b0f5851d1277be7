"""Names, lazy imports, and what is said where a classifier cannot be built."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from episodes.errors import DataError, UsageError
from fewshot.classifiers import CLASSIFIER_NAMES, INDUCTIVE, NEEDS_STATISTICS, TRANSDUCTIVE, build_classifier, needs
from fewshot.classifiers.base import Statistics, class_statistics


def test_names_cost_no_torch() -> None:
    code = (
        "import sys; from fewshot.classifiers import CLASSIFIER_NAMES; "
        "print(len(CLASSIFIER_NAMES), 'torch' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.split() == [str(len(CLASSIFIER_NAMES)), "False"]


def test_every_name_of_the_command_line_is_there(statistics) -> None:
    expected = (
        "prototype simpleshot tip gda ridge logistic lp++ nearest "
        "soft-kmeans bdcspn laplacianshot tim alpha-tim ptmap transclip zero-shot text-blend"
    )
    assert set(expected.split()) <= set(CLASSIFIER_NAMES)
    for name in CLASSIFIER_NAMES:
        assert build_classifier(name, statistics=statistics).transductive == (name in TRANSDUCTIVE)


@pytest.mark.parametrize("name", CLASSIFIER_NAMES)
def test_statistics_are_asked_for_where_they_are_needed(name: str) -> None:
    if name in NEEDS_STATISTICS:
        with pytest.raises(UsageError, match=r"train a checkpoint .* --statistics DIR"):
            build_classifier(name)
    else:
        build_classifier(name)


def test_what_a_classifier_takes_besides_pictures_is_known_by_its_name() -> None:
    taken = {name: (needs(name, "statistics"), needs(name, "text")) for name in ("prototype", "gda", "zero-shot")}
    assert taken == {"prototype": (False, False), "gda": (True, False), "zero-shot": (False, True)}
    assert not needs("protonet", "statistics")
    kinds = {name: name in INDUCTIVE for name in ("prototype", "gda", "tim", "zero-shot", "text-blend")}
    assert kinds == {"prototype": True, "gda": True, "tim": False, "zero-shot": False, "text-blend": False}


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'protonet'.*prototype, simpleshot"):
        build_classifier("protonet")


def test_statistics_survive_a_file(tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    statistics = class_statistics(torch.randn(30, 6, generator=generator), torch.arange(30) % 3)
    path = tmp_path / "statistics.safetensors"
    second = Statistics(statistics.mean + 1, statistics.covariance * 2, 30)
    save_file({**statistics.to_tensors(), **second.to_tensors("untouched."), "other": torch.zeros(1)}, path)
    for prefix, expected in (("statistics.", statistics), ("untouched.", second)):
        back = Statistics.from_tensors(load_file(path), prefix)
        assert back is not None
        assert torch.equal(back.mean, expected.mean)
        assert torch.equal(back.covariance, expected.covariance)
        assert back.count == 30
    assert Statistics.from_tensors({"other": torch.zeros(1)}) is None


def test_broken_statistics_are_refused(statistics) -> None:
    tensors = statistics.to_tensors()
    with pytest.raises(DataError, match=r"missing \['statistics.mean'\]"):
        Statistics.from_tensors({k: v for k, v in tensors.items() if not k.endswith("mean")})
    with pytest.raises(DataError, match="do not fit"):
        Statistics.from_tensors({**tensors, "statistics.mean": torch.zeros(3)})
    with pytest.raises(DataError, match="no labelled picture"):
        class_statistics(torch.zeros(2, 3), torch.tensor([-1, -1]))
    with pytest.raises(DataError, match="expected features"):
        class_statistics(torch.zeros(2, 3), torch.tensor([0]))


@pytest.mark.parametrize("name", NEEDS_STATISTICS)
def test_statistics_of_another_encoder_are_refused(name: str, tasks) -> None:
    t = tasks(1, 2, 1, 1)
    other = Statistics(torch.zeros(7), torch.eye(7), 10)
    with pytest.raises(DataError, match="width 7, these have 48"):
        build_classifier(name, statistics=other)(t.batch())
