"""Stage 5 of PUB11: outliers, by a vision-language score and a remote-sensing detector together.
Chapter: filters.

* paper, PUB11: the score of a vision-language model and an image detector are used jointly
* the paper publishes neither its prompts, nor the detector, nor the thresholds, nor how the two are
  joined; here the rule ("both" or "either" below its threshold) and the thresholds are those that
  do best on a validation split
* [NOT IMPLEMENTED] a fine-tuned detector: ours is a logistic regression on the frozen features of
  the same model
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "vision": ["OTHERS", "SCENES", "VIEWS", "features", "prompts", "score", "score_features"],
        "regression": ["Detector", "fit_detector", "probability"],
        "saved": [
            "LARGEST",
            "about_detector",
            "check_detector",
            "load_detector",
            "save_detector",
            "tower_digest",
            "words",
        ],
        "rules": [
            "BOTH",
            "EITHER",
            "PROBABILITY",
            "RULES",
            "SCORE",
            "Thresholds",
            "auc",
            "choose_thresholds",
            "f_beta",
            "joint",
            "joint_all",
            "precision_recall",
            "roc",
        ],
    },
)
