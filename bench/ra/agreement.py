"""Agreement of a study with 100,000 judgements: how long its page takes, and that its numbers are those of oracles.

The oracles are those of the tests: definitions written out by pairs of answers, and scikit-learn's kappa. They read
each judgement by itself, where the app lets Postgres count the clips that were judged alike.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from sklearn.metrics import cohen_kappa_score

from app.models import Study, db
from app.results import agreement as agreement_results
from app.results import judgements
from app.results.agreement import Results
from app.statistics.agreement import Agreement, agreement
from app.statistics.kappa import kappas
from bench.ra.figures import Figure, at_most, demand
from bench.ra.site import Site
from tests.ra_app.campaign import CODEBOOK, add_study
from tests.ra_app.test_statistics_agreement import (
    Table,
    ac1_by_pairs,
    alpha_by_coincidences,
    clips_of,
    percent_by_pairs,
    positive_by_pairs,
)
from tests.ra_app.world import Visitor, World

JUDGEMENTS, CODERS, PER_CLIP = 100_000, 10, 3
EXACT = 1e-9
RANDOM_TABLES = 200
ORACLES = {
    "percent": percent_by_pairs,
    "alpha": alpha_by_coincidences,
    "ac1": ac1_by_pairs,
    "positive": positive_by_pairs,
}
# A clip's label follows from its number: 6 % are hate, 4 % a scam. A coder errs on 5 % and cannot decide on 2 %.
_FILL = """
    SELECT setseed(0.5);
    INSERT INTO ra_items (study_id, audio_id, position)
    SELECT %(study)s, n, n FROM generate_series(1, %(clips)s) n;
    INSERT INTO ra_assignments (audio_id, item_id, coder_number, study_id, position, user_id, state, submitted_at)
    SELECT audio_id, item_id, number, study_id, position, user_id, 'submitted', now()
    FROM (SELECT i.*, u.user_id, row_number() OVER (PARTITION BY i.item_id ORDER BY random()) AS number
          FROM ra_items i CROSS JOIN ra_users u WHERE i.study_id = %(study)s AND u.role = 'ra') drawn
    WHERE number <= %(per_clip)s;
    INSERT INTO ra_labels (assignment_id, submission_key, codebook_id, codebook_version, labels, blind, created_at)
    SELECT assignment_id, gen_random_uuid(), %(codebook)s, %(version)s,
           jsonb_build_array(CASE WHEN drawn < 0.02 THEN 'unsure' WHEN drawn < 0.045 THEN 'hate'
               WHEN drawn < 0.07 THEN 'no_violation' WHEN kind < 6 THEN 'hate' WHEN kind < 10 THEN 'scam'
               ELSE 'no_violation' END),
           true, timestamptz '2026-06-01' + audio_id %% 20 * interval '7 days'
    FROM (SELECT assignment_id, audio_id, random() AS drawn, audio_id * 31 %% 100 AS kind
          FROM ra_assignments WHERE study_id = %(study)s) drawn;
    ANALYZE
"""


def measure(site: Site) -> list[Figure]:
    study = fill(site.world)
    lead = Visitor(site.app)
    lead.log_in("lea")
    began = time.perf_counter()
    demand(lead.get(f"/studies/{study}/agreement").status_code == 200, "the page of agreement is not shown")
    first_s = time.perf_counter() - began
    began = time.perf_counter()
    lead.get(f"/studies/{study}/agreement")
    again_s = time.perf_counter() - began
    with site.app.app_context():
        differences = list(_of_study(study))
    apart = max([*differences, *_of_random_tables()])
    what = f"{JUDGEMENTS:,} judgements, {CODERS} coders"
    note = f"{len(differences)} numbers of the study, {RANDOM_TABLES} random tables with missing answers"
    return [
        at_most(f"agreement page, {what}", 5, first_s, "s", digits=1, note=f"shown again {again_s:.2f} s"),
        Figure("agreement, apart from independent oracles", "≤ 1e-9", f"{apart:.1e} ({note})", apart <= EXACT),
    ]


def fill(world: World, count: int = JUDGEMENTS) -> int:
    """Empty the database, and add a study with this many judgements and a lead, `lea`. Return the study's number."""
    world.empty()
    world.add_user("lea", role="lead")
    for number in range(CODERS):
        world.add_user(f"coder-{number}")
    study = add_study(world, "100,000 judgements")
    clips = -(-count // PER_CLIP)
    world.sql(
        _FILL, study=study, clips=clips, per_clip=PER_CLIP, codebook=CODEBOOK[0], version=CODEBOOK[1]
    )  # fmt: skip
    return study


def _of_study(study_id: int) -> Iterator[float]:
    """Return how far each number of the study is from its oracle."""
    study = db.session.get(Study, study_id)
    demand(study is not None, "the study is missing")
    assert study is not None  # noqa: S101 - for the type checker; the line above has asked
    [version] = judgements.versions(study, "newest")
    tables = _tables(study)
    names = judgements.pseudonyms(range(1, CODERS + 2))
    for label in version.codebook.labels:
        if label.undecided:
            continue
        found = agreement_results.results(study, "newest", version, label.code)
        table = [[None if codes is None else label.code in codes for codes in clip] for clip in tables]
        [of_label] = [each for each in found.labels if each.label.code == label.code]
        yield from _apart(of_label.agreement, table)
        yield from _kappas_apart(found, table, {name: user - 2 for user, name in names.items()})


def _tables(study: Study) -> list[list[set[str] | None]]:
    """Read each judgement by itself: a list of coders for each clip."""
    rows = db.session.execute(
        db.text(
            "SELECT a.item_id, a.user_id, l.labels FROM ra_assignments a JOIN ra_labels l USING (assignment_id) "
            "WHERE a.study_id = :study_id"
        ),
        {"study_id": study.study_id},
    )
    clips: defaultdict[int, list[set[str] | None]] = defaultdict(lambda: [None] * CODERS)
    for item, user, labels in rows:
        clips[item][user - 2] = None if "unsure" in labels else set(labels)  # the lead is the first user
    return list(clips.values())


def _apart(found: Agreement, table: Table) -> Iterator[float]:
    for name, oracle in ORACLES.items():
        yield _distance(getattr(found, name).value, oracle(table))


def _kappas_apart(found: Results, table: Table, column: dict[str, int]) -> Iterator[float]:
    for pair in found.kappas.pairs:
        both = [(row[column[pair.first]], row[column[pair.second]]) for row in table]
        yield _distance(pair.kappa.value, _kappa([answers for answers in both if None not in answers]))


def _kappa(both: list[tuple[bool | None, bool | None]]) -> float | None:
    first, second = zip(*both, strict=True)
    if len({*first, *second}) == 1:
        return None
    return float(cohen_kappa_score(first, second, labels=[False, True]))


def _of_random_tables() -> Iterator[float]:
    chance = random.Random(7)  # noqa: S311 - made-up answers
    for _ in range(RANDOM_TABLES):
        coders, share = chance.randint(2, 6), chance.random()
        table: Table = [
            [None if chance.random() < 0.3 else chance.random() < share for _ in range(coders)]
            for _ in range(chance.randint(1, 60))
        ]
        yield from _apart(agreement(clips_of(table), 10), table)
        of_pairs = {(pair.first, pair.second): pair.kappa.value for pair in kappas(clips_of(table), 10).pairs}
        for one, other in combinations(range(coders), 2):
            both = [(row[one], row[other]) for row in table if None not in {row[one], row[other]}]
            if both:
                yield _distance(of_pairs[f"ra{one}", f"ra{other}"], _kappa(both))


def _distance(found: float | None, wanted: float | None) -> float:
    if found is None or wanted is None:
        return 0.0 if found is wanted else 1.0
    return abs(found - wanted)
