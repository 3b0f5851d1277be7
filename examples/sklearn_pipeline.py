"""Pictures in scikit-learn's pipelines: `python examples/sklearn_pipeline.py [FOLDER]`."""

import numpy as np
from drawn import class_folders
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from episodes import read_class_folders
from fewshot import FewShotClassifier, ImageEmbedder


def main() -> None:
    """Cross-validate two classifiers behind one encoder; the pictures are embedded once and cached."""
    table = read_class_folders(class_folders(pictures=8))
    paths, labels = np.array(table.paths(), dtype=object), np.array(table.class_names)[table.labels]
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    for classifier in (FewShotClassifier("prototype"), LogisticRegression(C=10.0, max_iter=1000)):
        pipeline = make_pipeline(ImageEmbedder("tiny"), classifier)
        scores = cross_val_score(pipeline, paths, labels, cv=folds)
        print(
            f"{type(classifier).__name__:<20} {scores.mean():.1%} in {len(scores)} folds ({scores.min():.1%} to {scores.max():.1%})"
        )


if __name__ == "__main__":
    main()
