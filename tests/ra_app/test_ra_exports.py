"""Exports: what the files hold, that a snapshot stays the same, and the process that makes them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flask import Flask

from app.export import orders, tables, worker
from app.export.columns import ALWAYS, Choices, columns_of
from app.export.orders import Order
from app.models import Export, User, db
from tests.documentation import DOCS
from tests.ra_app import campaign
from tests.ra_app.serving import RA_APP, command_env
from tests.ra_app.world import POLICY, SCORE, Visitor, World
from tests.workers.processes import wait_until

# The inputs of OWASP's page on CSV injection, and what else a spreadsheet takes for one of them.
FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(1+1)", "\t=1+1", "\r=1+1", "\n=1+1", "  =1+1", "\u00a0=1+1", "\ufeff=1+1",
    "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(1)", '=1+2";=1+2', "=1+2'\" ;,=1+2", "=cmd|' /C calc'!A0",
    "'=1", "'", "\x0b+1", "\u3000@x",
]  # fmt: skip
HARMLESS = ["a=1", "1-1", "", "„Zitat“, mit; Komma", "two\r\nlines", '"quoted"', "日本 👋🏽", "a'", "\\", "x\x1fy"]
FORMATS = ["csv", "parquet", "web-annotation", "label-studio"]


@pytest.fixture
def root(app: Flask, tmp_path: Path) -> Iterator[Path]:
    before, app.config["RA_EXPORTS"] = app.config["RA_EXPORTS"], tmp_path / "exports"
    yield tmp_path / "exports"
    app.config["RA_EXPORTS"] = before


def judged(world: World, notes: list[str]) -> int:
    """A study with a clip for each note, all judged by mira and the first also by jo, who changes her mind once."""
    mira, jo = world.add_user("mira-hauser"), world.add_user("jo-lindqvist")
    world.add_user("lea-brandt", role="lead")
    study = campaign.add_study(world, "Threats, round 1", seed=77)
    items = campaign.add_items(world, study, [world.add_clip(filename=f"secret-{n}.mp3") for n in range(len(notes))],
                               stratum="rest", probability=0.25)  # fmt: skip
    labels = [campaign.judge(world, item, mira, ["hate"], note=note) for item, note in zip(items, notes, strict=True)]
    campaign.judge(world, items[0], jo, ["no_violation"])
    campaign.judge(world, items[0], jo, ["hate", "harassment"], blind=False)
    world.sql("SET session_replication_role = replica")  # `ra_labels` is only added to
    world.sql(
        "UPDATE ra_labels SET spans = '[[0.5, 2.25], [3, 4]]', active_ms = 4500, heard_ms = 2000, heard = '[[0, 2]]', "
        "transcript_id = (SELECT min(transcript_id) FROM transcripts), answers = %s WHERE label_id = %s",
        '{"target": ["group"]}', labels[0],
    )  # fmt: skip
    world.sql("SET session_replication_role = origin")
    return study


def ordered(world: World, root: Path, name: str, study: int, *formats: str, **choices: bool) -> Path:
    """Order an export, let the worker make it, and return its folder."""
    with world.app.app_context():
        by = db.session.query(User).filter_by(role="lead").one()
        export = orders.place(Order(name=name, studies=[study], formats=list(formats), **choices), by)
        db.session.commit()
        folder = root / f"{export.export_id}-{name}"
    made(world, root)
    return folder


def made(world: World, root: Path) -> None:
    with world.app.app_context():
        worker.work(root, Event(), once=True)


def rows(folder: Path) -> list[dict[str, Any]]:
    with gzip.open(folder / "judgements.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def state(world: World, column: str = "state") -> Any:
    return world.sql(f"SELECT {column} FROM ra_exports ORDER BY export_id DESC LIMIT 1")[0][0]


def test_every_format_holds_the_same_rows_and_no_names(world: World, root: Path) -> None:
    folder = ordered(world, root, "round-1", judged(world, [*FORMULAS, *HARMLESS]), *FORMATS)
    names = [column.name for column in columns_of(Choices(), [POLICY])]
    kept = rows(folder)
    assert len(kept) == len(FORMULAS) + len(HARMLESS) + 2
    assert all(list(row) == names for row in kept)
    first = kept[0]
    drawn = (first["arm"], first["stratum"], first["inclusion_probability"], first["seed"])
    assert drawn == ("blind", "rest", 0.25, 77)
    assert (first[f"score_{POLICY}"], first[f"verdict_{POLICY}"], first["asr_model"]) == (SCORE, True, "large-v3")
    assert (first["spans"], json.loads(first["answers"])) == ([[0.5, 2.25], [3, 4]], {"target": ["group"]})
    assert [(row["is_newest"], row["blind"]) for row in kept[:3]] == [(True, True), (False, True), (True, False)]
    assert kept[2]["revision_of"] == kept[1]["label_id"]
    assert {row["coder"] for row in kept} == {name for (name,) in world.sql(
        "SELECT p.pseudonym FROM ra_pseudonyms p JOIN ra_users USING (user_id) WHERE role = 'ra'")}  # fmt: skip

    table = pq.read_table(folder / "judgements.parquet")
    assert table.column_names == names
    assert table.schema.field("submitted_at").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("labels").type == pa.list_(pa.string())
    assert table.schema.field("duration_s").metadata[b"unit"] == b"seconds"
    for column in ("note", "labels", "spans", "label_id", "blind", f"score_{POLICY}", "revision_of"):
        assert table.column(column).to_pylist() == [row[column] for row in kept], column

    listed = list(csv.DictReader(io.StringIO((folder / "judgements.csv").read_bytes().decode(), newline="")))
    assert [line["note"].removeprefix("'") for line in listed] == [row["note"] for row in kept]
    assert [float(line[f"score_{POLICY}"]) for line in listed] == [row[f"score_{POLICY}"] for row in kept]
    for column in ("labels", "spans", "heard"):
        assert [json.loads(line[column]) for line in listed] == [row[column] for row in kept], column
    assert [line["revision_of"] for line in listed[:3]] == ["", "", str(kept[1]["label_id"])]

    forbidden = [b"mira-hauser", b"jo-lindqvist", b"lea-brandt", b"secret-", b"So listen"]
    for name, content in contents(folder).items():
        plain = gzip.decompress(content) if name.endswith(".gz") else content
        if name.endswith(".parquet"):
            plain = repr(table.to_pylist()).encode() + content
        assert not [word for word in forbidden if word in plain], name


def test_no_cell_runs_as_a_formula_and_its_text_comes_back() -> None:
    written = [next(csv.reader(io.StringIO(tables.quoted(text), newline="")))[0] for text in FORMULAS]
    assert written == ["'" + text for text in FORMULAS]


def test_other_text_and_numbers_stay_as_they_are() -> None:
    assert [next(csv.reader(io.StringIO(tables.quoted(text), newline="")), [""])[0] for text in HARMLESS] == HARMLESS
    (duration,) = [column for column in ALWAYS if column.name == "duration_s"]
    assert tables.cells(pa.array([-1.5, 1e-7, None]), duration).to_pylist() == ["-1.5", "1e-7", None]


def test_what_makes_the_files_reads_pseudonyms_and_no_accounts() -> None:
    for name in ("bounds", "build", "canonical", "columns", "label_studio", "tables", "web_annotation"):
        text = (RA_APP / "app" / "export" / f"{name}.py").read_text()
        assert not re.search(r"ra_users|\bUser\b|username", text), name
        assert re.findall(r"\S*user_id\S*", text) in ([], ["p.user_id", "a.user_id"]), name  # the join of pseudonyms


def test_the_dictionary_explains_every_column_and_the_sums_hold(world: World, root: Path) -> None:
    folder = ordered(world, root, "all", judged(world, ["x"]), "csv", text=True, names=True)
    header = next(csv.reader((folder / "judgements.csv").read_text().splitlines()))
    explained = list(csv.DictReader((folder / "dictionary.csv").read_text().splitlines()))
    assert [line["column"] for line in explained] == header
    assert {"transcript", "file_name", "archive"} <= set(header)
    assert all(line["type"] and line["meaning"] for line in explained)
    assert json.loads((folder / "dictionary.json").read_text()) == explained
    assert all(f"| {name} |" in (folder / "README.md").read_text() for name in header)
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        sum_, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sum_
    assert rows(folder)[0]["file_name"] == "secret-0.mp3"


def test_the_snippet_of_the_guide_loads_an_export_with_its_types(
    world: World, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The locks have pandas, which comes with WhisperX; if it is missing, the snippet fails."""
    folder = ordered(world, root, "pilot", judged(world, ["=1", "x"]), "csv", "parquet")
    (snippet,) = re.findall(r"```python\n(.*?)```", (DOCS / "lead-guide.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(snippet, found)  # noqa: S102 - the guide's own words
    newest = found["newest"]
    assert len(newest) == 3
    assert set(newest["labels"].iloc[0]) == {"hate"}
    assert found["meaning"]["coder"] == "The pseudonym of the research assistant."


def test_a_snapshot_holds_what_was_stored_when_it_began(world: World, root: Path) -> None:
    study = judged(world, ["x", "y"])
    folder = ordered(world, root, "before", study, *FORMATS)
    before = contents(folder)
    item = world.sql("SELECT max(item_id) FROM ra_items")[0][0]
    campaign.judge(world, item, world.add_user("late"), ["hate"], note="stored after")
    assert again(world, root) == {"same": True, "bytes": True}
    assert contents(folder) == before

    clip = world.sql("SELECT audio_id FROM ra_items WHERE item_id = %s", item)[0][0]
    world.unflag(clip)  # judged again since
    found = again(world, root)
    assert not found["same"]
    assert f"clip {clip}." in found["says"]
    assert f"verdict_{POLICY}" in found["says"]
    assert contents(folder) == before
    assert state(world) == "done"


def again(world: World, root: Path) -> Any:
    with world.app.app_context():
        export = db.session.get(Export, state(world, "export_id"))
        by = db.session.query(User).filter_by(role="lead").one()
        assert export is not None
        assert orders.again(export, by)
        db.session.commit()
    made(world, root)
    return state(world, "bounds")["again"]


def test_annotations_have_the_shape_that_their_tools_read(world: World, root: Path) -> None:
    folder = ordered(world, root, "tools", judged(world, ["said twice", ""]), *FORMATS)
    page = json.loads((folder / "annotations.jsonld").read_text())
    assert (page["@context"], page["type"]) == ("http://www.w3.org/ns/anno.jsonld", "AnnotationPage")
    assert len(page["items"]) == 4
    first = page["items"][0]
    assert (first["type"], first["motivation"], first["creator"]["type"]) == ("Annotation", "classifying", "Person")
    bodies = [(body["purpose"], body["value"]) for body in first["body"]]
    assert bodies == [("tagging", "hate"), ("commenting", "said twice")]
    assert [target["id"].partition("#")[2] for target in first["target"]] == ["t=0.5,2.25", "t=3,4"]
    assert len({item["id"] for item in page["items"]}) == 4

    tasks = json.loads((folder / "label-studio.json").read_text())
    setup = ET.fromstring((folder / "label-studio.xml").read_text())  # noqa: S314 - our own file
    tags = {tag.get("name"): tag for tag in setup}
    assert [len(task["annotations"]) for task in tasks] == [2, 1]  # the newest of each coder
    for task in tasks:
        assert {tag.get("value", "")[1:] for tag in setup if tag.tag == "Audio"} <= task["data"].keys()
        assert len(task["data"]["coders"]) == len(task["annotations"])
        for result in (one for annotation in task["annotations"] for one in annotation["result"]):
            assert tags[result["from_name"]].get("toName") == result["to_name"] == "audio"
            assert tags[result["from_name"]].tag.lower() == result["type"]
            assert result["type"] in result["value"] or result["type"] == "textarea"
            known = [choice.get("value") for choice in tags[result["from_name"]]]
            assert set(result["value"].get(result["type"], [])) <= set(known)


def test_an_empty_study_and_a_full_disk_are_no_crash(world: World, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_user("lea", role="lead")
    folder = ordered(world, root, "empty", campaign.add_study(world, "Nothing yet"), *FORMATS)
    assert rows(folder) == []
    assert pq.read_table(folder / "judgements.parquet").num_rows == 0
    assert json.loads((folder / "annotations.jsonld").read_text())["items"] == []
    with monkeypatch.context() as patch:
        patch.setattr("app.export.canonical.write", lambda *_: Path("/dev/full").write_bytes(b"x" * 100_000))
        ordered(world, root, "too-much", campaign.add_study(world, "More"))
    assert state(world) == "failed"
    assert "is full. Nothing was kept" in state(world, "error")
    assert sorted(path.name for path in root.iterdir()) == [folder.name]


def test_an_export_survives_the_death_of_its_worker(world: World, root: Path, ra_env: dict[str, str]) -> None:
    study = judged(world, [f"note {n}" for n in range(40)])
    with world.app.app_context():
        by = db.session.query(User).filter_by(role="lead").one()
        orders.place(Order(name="hard", studies=[study], formats=["parquet"]), by)
        db.session.commit()
    lock = world.sql  # an administrator holds the table, so the worker stands in the middle
    lock("BEGIN")
    lock("LOCK TABLE ra_items IN ACCESS EXCLUSIVE MODE")
    try:
        _killed(root, ra_env, signal.SIGKILL, until=lambda: list(root.glob(".*.part")))
    finally:
        lock("ROLLBACK")
    assert state(world) == "running"
    made(world, root)
    assert state(world) == "running"  # it may still be at work
    world.sql("UPDATE ra_exports SET seen_at = now() - interval '61 s'")
    code = _killed(root, ra_env, signal.SIGTERM, until=lambda: state(world) == "done")
    assert code == 0
    (folder,) = root.iterdir()
    assert len(rows(folder)) == 42


def _killed(root: Path, ra_env: dict[str, str], how: signal.Signals, until: Any) -> int:
    """Start `flask exports work`, wait until something holds, and end it. Return its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "exports", "work"],
        cwd=RA_APP, env={**command_env(ra_env), "RA_EXPORTS": str(root)}, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or until(), "the export is where the process is to end")
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        os.kill(process.pid, how)
        return process.wait(30)
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def test_a_lead_orders_fetches_and_removes_an_export(world: World, root: Path, visitor: Visitor) -> None:
    study = judged(world, ["x"])
    visitor.log_in("lea-brandt")
    assert "There are no exports yet" in visitor.get("/exports").text
    refused = visitor.post("/exports", {"name": "../x", "format": ["csv", "exe"]})
    assert refused.status_code == 422
    for sentence in ("Use 1 to 60 letters", "Choose one study or more", "formats does not exist", 'value="../x"'):
        assert sentence in refused.text
    form = {"name": "round-1", "study": [str(study)], "format": ["csv"]}
    assert visitor.post("/exports", form).status_code == 302
    assert "already" in visitor.post("/exports", form).text
    assert "Look again" in visitor.get("/exports").text
    made(world, root)
    number = state(world, "export_id")
    page = visitor.get(f"/exports/{number}").text
    file = root / f"{number}-round-1" / "judgements.csv"
    assert hashlib.sha256(file.read_bytes()).hexdigest() in page
    answer = visitor.get(f"/exports/{number}/files/judgements.csv")
    assert answer.data == file.read_bytes()
    assert "attachment; filename=round-1-judgements.csv" in answer.headers["Content-Disposition"]
    assert answer.headers["Cache-Control"] == "private, no-store"
    answer.close()
    for name in ("..%2F..%2Fetc%2Fpasswd", "label-studio.json", ".", "x"):
        assert visitor.get(f"/exports/{number}/files/{name}").status_code == 404
    assert visitor.post(f"/exports/{number}/remove").status_code == 302
    assert visitor.get(f"/exports/{number}/files/judgements.csv").status_code == 404
    made(world, root)
    assert list(root.iterdir()) == []
    assert world.sql("SELECT act, subject FROM ra_acts ORDER BY act_id") == [
        ("export-ordered", "round-1"), ("export-fetched", "round-1"), ("export-removed", "round-1")
    ]  # fmt: skip
    assert "score_POLICY" in visitor.get("/exports/dictionary").text
