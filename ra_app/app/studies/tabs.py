"""The pages of one study, as tabs above each of them. Every one is a view of a study's number, for leads."""

from __future__ import annotations

from flask import Flask

# Endpoint and title, in the order in which they stand.
TABS = (
    ("studies.show", "Overview"),
    ("references.index", "References"),
    ("agreement.show", "Agreement"),
    ("decisions.index", "Decisions"),
    ("classifier.show", "Classifier"),
)


def add_tabs(app: Flask) -> None:
    app.jinja_env.globals["study_tabs"] = TABS
