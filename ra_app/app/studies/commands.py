"""The commands `flask studies …`: what studies there are, their states, and how they protect people from the clips."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
import sqlalchemy as sa
from flask.cli import AppGroup

from app.models import Study, db
from app.people.commands import clear_errors
from app.studies import protection, states
from app.studies.protection import DEFAULT
from app.wellbeing import wellness
from app.wellbeing.wellness import KEY
from app.wellbeing.wellness_values import OF_STUDY, WellnessError

studies = AppGroup(
    "studies", help="List, open, pause and close studies, and change how they protect people from the clips."
)


@studies.command("list")
@clear_errors
def list_() -> None:
    """List the studies with their wellness values."""
    for study in db.session.scalars(sa.select(Study).order_by(Study.study_id)):
        click.echo(f"{study.name} ({study.state})")
        given = protection.given(study)
        for key, value in asdict(wellness.of_study(study)).items():
            click.echo(f"  {KEY}.{key}={protection.as_text(value)}" + ("" if key in given else f"  ({DEFAULT})"))


@studies.command("set")
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar=f"{KEY}.KEY=VALUE...")
@clear_errors
def set_(name: str, changes: tuple[str, ...]) -> None:
    """Change wellness values of the study NAME. VALUE may be "none" (no limit) or "default"."""
    study = _named(name)
    before = wellness.of_study(study)
    try:
        given = _changed(study, changes)
    except WellnessError as error:
        db.session.rollback()
        raise click.ClickException(f"Study “{name}”: {error} Nothing is changed.") from error
    protection.put(study, given)
    after = wellness.of_study(study)
    db.session.commit()
    was, now = asdict(before), asdict(after)
    for key in OF_STUDY:
        if was[key] != now[key]:
            click.echo(f"{KEY}.{key}: {protection.as_text(was[key])} -> {protection.as_text(now[key])}")
    if before == after:
        click.echo("Nothing is changed: these values were in force already.")


@studies.command("open")
@click.argument("name")
@clear_errors
def open_(name: str) -> None:
    """Give out the clips of the study NAME (again)."""
    _set_state(name, "open", "Its clips are given out.")


@studies.command("pause")
@click.argument("name")
@clear_errors
def pause(name: str) -> None:
    """Give out no more clips of the study NAME. What people hold they may finish."""
    _set_state(name, "paused", "Nobody gets another clip of it; what people hold they may finish.")


@studies.command("close")
@click.argument("name")
@clear_errors
def close(name: str) -> None:
    """Take no more labels in the study NAME. Clips in hand are given back; drafts are kept."""
    _set_state(name, "closed", "It takes no more labels; drafts are kept.")


def _set_state(name: str, state: states.State, means: str) -> None:
    given_back = states.set_state(_named(name).study_id, state, None)
    db.session.commit()
    if given_back is None:
        click.echo(f"Nothing is changed: the study is {state} already.")
        return
    click.echo(f"The study “{name}” is {state}. {means}")
    if given_back:
        click.echo(f"Clips in hand that were given back: {given_back}")


def _named(name: str) -> Study:
    study = db.session.scalar(sa.select(Study).where(Study.name == name).with_for_update())
    if study is None:
        raise click.ClickException(f"There is no study named “{name}”. `flask studies list` shows all studies.")
    return study


def _changed(study: Study, changes: tuple[str, ...]) -> dict[str, Any]:
    """Return the study's own values with these changes.

    Raises
    ------
    WellnessError
        Says which change is not possible, and what is.
    """
    given = protection.given(study)
    for change in changes:
        name, equals, text = change.partition("=")
        key = name.removeprefix(f"{KEY}.")
        if not equals or key == name or key not in OF_STUDY:
            known = ", ".join(f"{KEY}.{each}" for each in OF_STUDY)
            raise WellnessError(f"“{change}” is not a change. Write KEY=VALUE; keys are {known}.")
        if text == DEFAULT:
            given.pop(key, None)
        else:
            given[key] = protection.read_value(key, text)
    protection.check_order(given)
    return given
