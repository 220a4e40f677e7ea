"""The notebook's five models, with its numbers."""

from model.arena.experiment import models


def test_the_models_have_the_notebooks_parameters() -> None:
    found = {name: model.get_params() for name, model in models().items()}
    assert (found["logistic regression"]["C"], found["logistic regression"]["class_weight"]) == (0.1, "balanced")
    assert (found["random forest"]["n_estimators"], found["random forest"]["max_depth"]) == (300, 4)
    boosted = found["XGBoost"]
    assert (boosted["n_estimators"], boosted["learning_rate"], boosted["max_depth"]) == (300, 0.05, 4)
    assert (found["AdaBoost"]["n_estimators"], found["AdaBoost"]["learning_rate"]) == (300, 0.05)
    grid = {"svc__C": [0.01, 0.1, 1.0, 10.0], "svc__kernel": ["linear", "rbf"]}
    assert found["SVM"]["param_grid"] == grid
