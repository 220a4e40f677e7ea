"""Plots show outside names as they are."""

from model.reports import plots


def test_a_name_with_dollar_signs_is_no_formula() -> None:
    figure = plots.interval_chart(["system $\\frac{", "a$b$"], {"listeners": [(1.0, 0.5, 1.5), None]}, "rating")
    assert plots.png(figure).startswith(b"\x89PNG")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["system $\\frac{", "a$b$"]
