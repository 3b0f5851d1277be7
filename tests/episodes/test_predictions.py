"""The result CSV: its bytes, reading, and scoring."""

import math
from pathlib import Path

import pandas as pd
import pytest

from episodes import DataError, UsageError, read_predictions, read_truth, score_predictions, write_predictions
from episodes.predictions import parse_columns

TRUTH = "task,image,label\nt1,1.png,a\nt1,2.png,b\nt2,1.png,a\nt2,2.png,a\nt2,3.png,b\nt2,4.png,b\n"


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": ["t1", "t1", "t2"],
            "image": ["1.png", "a,b\n.png", "猫.png"],
            "label": ["NA", None, "007"],
            "confidence": [0.123456, math.nan, 1.0],
            "truth": ["NA", "x", ""],
        }
    )


def test_bytes_and_reading_back(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_predictions(frame(), path)
    expected = 'task,image,label,confidence\nt1,1.png,NA,0.1235\nt1,"a,b\n.png",,\nt2,猫.png,007,1.0000\n'
    assert path.read_bytes() == expected.encode()
    back = read_predictions(path)
    assert back["label"].tolist() == ["NA", "", "007"] and back["image"].tolist() == frame()["image"].tolist()
    assert back["confidence"].tolist()[::2] == [0.1235, 1.0] and math.isnan(back["confidence"][1])


def test_columns_choose_and_order(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_predictions(frame().iloc[:1], path, columns=("label", "image"))
    assert path.read_text() == "label,image\nNA,1.png\n"
    for wrong in (("label", "colour"), ("label", "label"), ()):
        with pytest.raises(UsageError, match="columns"):
            write_predictions(frame(), path, columns=wrong)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_score_is_the_mean_over_tasks(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.csv", TRUTH)
    result = write(
        tmp_path / "result.csv",  # other order of rows and columns, one unreadable, CRLF, a byte order mark
        "\ufeffconfidence,label,task,image\r\n1,a,t2,2.png\r\n1,b,t2,1.png\r\n1,b,t2,3.png\r\n,,t2,4.png\r\n"
        "1,a,t1,1.png\r\n1,b,t1,2.png\r\n",
    )
    score = score_predictions(result, truth)
    assert score.per_task == {"t1": 1.0, "t2": 0.5} and score.accuracy == 0.75  # over images it would be 4 / 6
    assert (score.images, score.tasks) == (6, 2) and score.ci95 == pytest.approx(12.706 * 0.25, rel=1e-4)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (TRUTH.replace("t2,3.png,b\n", ""), r"lacks 1 image of .*truth.csv: t2/3.png"),
        (TRUTH + "t3,1.png,a\n", r"has 1 image that .*truth.csv lacks: t3/1.png"),
        (TRUTH + "t1,2.png,a\n", r"more than once: t1/2.png"),
        (TRUTH.replace("label", "class"), r"expected a CSV file with the columns task,image,label"),
        (TRUTH + "t1,2.png\n", r"line 8: expected 3 values"),
        ("", r"\(empty\)"),
        ("task,image,label\n", "no rows"),
    ],
)
def test_results_that_do_not_fit_are_refused(tmp_path: Path, result: str, message: str) -> None:
    truth = write(tmp_path / "truth.csv", TRUTH)
    with pytest.raises(DataError, match=message):
        score_predictions(write(tmp_path / "result.csv", result), truth)


def test_truth_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    result = write(tmp_path / "result.csv", TRUTH)
    with pytest.raises(DataError, match=r"truth.csv has rows without a label: t2/1.png"):
        score_predictions(result, write(tmp_path / "truth.csv", TRUTH.replace("t2,1.png,a", "t2,1.png,")))
    with pytest.raises(DataError, match="No such file"):
        score_predictions(result, tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"task,image,label\nt,\xff,a\n")
    with pytest.raises(DataError, match=r"latin.csv"):
        score_predictions(result, tmp_path / "latin.csv")


def test_read_truth_and_a_bad_confidence(tmp_path: Path) -> None:
    assert read_truth(write(tmp_path / "truth.csv", TRUTH))["label"].tolist() == list("abaabb")
    bad = write(tmp_path / "bad.csv", "task,image,label,confidence\nt,1.png,a,high\n")
    with pytest.raises(DataError, match="not a number"):
        read_predictions(bad)


AWKWARD = [
    "plain.jpg",
    "a,b.jpg",
    'quo"te.jpg',
    "line\nfeed.jpg",
    "carriage\rreturn.jpg",
    "both\r\n.jpg",
    "=1+1.jpg",
    " s .jpg",
    "é日本.jpg",
]


def test_every_name_comes_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"task": "t", "image": AWKWARD, "label": AWKWARD[::-1], "confidence": 0.5})
    write_predictions(frame, tmp_path / "result.csv")
    data = (tmp_path / "result.csv").read_bytes()
    assert data.splitlines(keepends=True)[1] == b"t,plain.jpg,\xc3\xa9\xe6\x97\xa5\xe6\x9c\xac.jpg,0.5000\n"
    again = pd.read_csv(tmp_path / "result.csv", keep_default_na=False)
    assert again["image"].tolist() == AWKWARD and again["label"].tolist() == AWKWARD[::-1]
    score = score_predictions(tmp_path / "result.csv", tmp_path / "result.csv")
    assert (score.accuracy, score.images) == (1.0, len(AWKWARD))


def test_columns_get_other_names_and_are_read_by_them(tmp_path: Path) -> None:
    columns = parse_columns("image=filename, label=class,task,confidence")
    assert columns == {"image": "filename", "label": "class", "task": "task", "confidence": "confidence"}
    path = tmp_path / "out.csv"
    write_predictions(frame(), path, columns)
    assert path.read_text().splitlines()[:2] == ["filename,class,task,confidence", "1.png,NA,t1,0.1235"]
    truth = write(tmp_path / "truth.csv", 'task,image,label\nt1,1.png,NA\nt1,"a,b\n.png",x\nt2,猫.png,007\n')
    score = score_predictions(path, truth, columns)
    assert score.per_task == {"t1": 0.5, "t2": 1.0}
    with pytest.raises(
        DataError, match=r"found the header filename,class,task,confidence; columns of other names: --co"
    ):
        score_predictions(path, truth)
    write_predictions(frame(), path, {"label": "class", "image": "filename"})
    assert score_predictions(path, truth, columns).per_task == {"t1": 0.5, "t2": 1.0}  # images are in one task each


@pytest.mark.parametrize(
    "text", ["", ",", "image=", "image,image", "image=a,label=a", "image=label,label", "colour", "=a"]
)
def test_columns_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected distinct names out of task,image,label,confidence,runner_up,margin"):
        parse_columns(text)


def test_some_unknown_are_told_apart_from_mistakes(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.csv", TRUTH)
    result = (
        TRUTH.replace("t1,2.png,b", "t1,2.png,unknown")
        .replace("t2,1.png,a", "t2,1.png,")
        .replace("t2,2.png,a", "t2,2.png,b")
    )
    score = score_predictions(write(tmp_path / "result.csv", result), truth)
    assert score.accuracy == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert score.coverage == pytest.approx(4 / 6) and score.accuracy_answered == pytest.approx((1 + 2 / 3) / 2)
    none = "\n".join(
        [TRUTH.splitlines()[0], *(line[: line.rindex(",")] + ",unknown" for line in TRUTH.splitlines()[1:])]
    )
    score = score_predictions(write(tmp_path / "none.csv", none), truth)
    assert score.coverage == 0 and math.isnan(score.accuracy_answered) and score.accuracy == 0


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    endless = tmp_path / "result.csv"
    endless.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"cannot read .*result.csv: .*; expected a CSV file with the columns"):
        score_predictions(endless, write(tmp_path / "truth.csv", TRUTH))
