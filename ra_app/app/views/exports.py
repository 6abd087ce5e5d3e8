"""The pages of exports, for leads. `flask exports work` makes the files; these pages order them and hand them out."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, abort, current_app, flash, g, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue

from app import acts
from app.export import dictionary as explained
from app.export import orders
from app.export.columns import Choices, columns_of
from app.export.formats import FORMATS
from app.export.orders import Order
from app.models import Export, db
from app.roles import LEADS, needs

blueprint = Blueprint("exports", __name__, url_prefix="/exports")

EXPORT = "/<int(max=9223372036854775807):export_id>"  # the largest Postgres bigint
PAGE_SIZE = 50
LAST_PAGE = 1_000_000
EXAMPLE = "POLICY"  # stands for a policy in the names of columns

blueprint.app_template_filter("bytes")(lambda size: f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} KB")
blueprint.app_template_filter("percent")(lambda share: f"{share:.0%}")


@blueprint.get("")
@needs(*LEADS)
def index() -> ResponseReturnValue:
    return _list(Order(studies=request.args.getlist("study", type=int)))


@blueprint.post("")
@needs(*LEADS)
def order() -> ResponseReturnValue:
    form = request.form
    made = Order(
        name=form.get("name", "").strip()[:200],
        studies=form.getlist("study", type=int),
        formats=form.getlist("format"),
        text="text" in form,
        names="names" in form,
    )
    problems = orders.problems(made)
    if problems:
        return _list(made, problems), 422
    orders.place(made, g.viewer)
    db.session.commit()
    flash(f"The export {made.name} is ordered.", "info")
    return redirect(url_for("exports.index"))


@blueprint.get(EXPORT)
@needs(*LEADS)
def show(export_id: int) -> ResponseReturnValue:
    export = _found(export_id)
    return render_template(
        "export.html", export=export, studies=orders.names_of(export), formats=FORMATS, share=orders.done_share(export)
    )


@blueprint.get(EXPORT + "/files/<name>")
@needs(*LEADS)
def fetch(export_id: int, name: str) -> ResponseReturnValue:
    """Send a file, block by block. It is noted who fetched it."""
    export = _found(export_id)
    path = orders.path_of(export, name, _root())
    if path is None:
        abort(404)
    if request.method == "GET":
        acts.note(g.viewer, "export-fetched", subject=export.name, file=name)
        db.session.commit()
    called = f"{export.name}-{name}"
    db.session.remove()  # sending takes long on a slow network, and needs no database connection
    answer = send_file(path, mimetype="application/octet-stream", as_attachment=True, download_name=called)
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


@blueprint.post(EXPORT + "/again")
@needs(*LEADS)
def again(export_id: int) -> ResponseReturnValue:
    export = _found(export_id, lock=True)
    if orders.again(export, g.viewer):
        flash("The export is built again from the database and compared with what it was.", "info")
    else:
        flash("The export is being built already.", "error")
    db.session.commit()
    return redirect(url_for("exports.show", export_id=export_id))


@blueprint.post(EXPORT + "/remove")
@needs(*LEADS)
def remove(export_id: int) -> ResponseReturnValue:
    export = _found(export_id, lock=True)
    orders.remove(export, g.viewer)
    db.session.commit()
    flash("The files are removed. The name and the hashes stay.", "info")
    return redirect(url_for("exports.show", export_id=export_id))


@blueprint.get("/dictionary")
@needs(*LEADS)
def dictionary() -> ResponseReturnValue:
    listed = explained.rows(columns_of(Choices(text=True, names=True), [EXAMPLE]))
    return render_template("export_dictionary.html", rows=listed, policy=EXAMPLE)


def _list(order_: Order, problems: dict[str, str] | None = None) -> str:
    number = request.args.get("page", 1, type=int)
    if not 1 <= number <= LAST_PAGE:
        abort(404)
    found = orders.newest(PAGE_SIZE + 1, PAGE_SIZE * (number - 1))
    return render_template(
        "exports.html",
        exports=[(export, by, orders.done_share(export)) for export, by in found[:PAGE_SIZE]],
        more=len(found) > PAGE_SIZE,
        page=number,
        busy=any(export.state in {"waiting", "running"} for export, _ in found),
        studies=orders.studies(),
        formats=FORMATS,
        order=order_,
        problems=problems or {},
    )


def _found(export_id: int, *, lock: bool = False) -> Export:
    export = db.session.get(Export, export_id, with_for_update=lock)
    if export is None:
        abort(404)
    return export


def _root() -> Path:
    root: Path = current_app.config["RA_EXPORTS"]
    return root
