"""`audio-pipeline policy`: lint policies, test them on examples, and choose their thresholds.

`diff` and `rescore`, which read the stored transcripts, are in `policy_archive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from commands.context import Context, cell, counted
from commands.options import AsJson
from config import Settings
from errors import PolicyError, UnknownError
from moderation.policies import Policy, load_policies, load_policy
from moderation.scorer import Scorer
from policy_lab import model
from policy_lab.calibration import Calibration, Goal, calibrate
from policy_lab.examples import read_examples
from policy_lab.figures import Confusion, Share
from policy_lab.lint import lint
from policy_lab.measuring import Measured, measure, score_examples

app = typer.Typer(
    no_args_is_help=True, help="Policies: lint, test, calibrate and compare them, and judge stored transcripts again."
)

TEXT_CHARS = 100  # of an example, in a table

PolicyName = Annotated[
    str, typer.Argument(metavar="POLICY", help="The id of a policy in `POLICIES_DIR`, or a policy file (`.md`).")
]
Policies = Annotated[
    list[str] | None,
    typer.Argument(metavar="POLICY", help="Ids of policies in `POLICIES_DIR`, or policy files (`.md`); default: all."),
]
Examples = Annotated[
    Path | None,
    typer.Option(
        "--examples",
        metavar="FILE",
        help="JSONL or CSV with `text` and `label` (0 or 1); default: `tests/POLICY.jsonl` beside the policy.",
    ),
]
Wished = Annotated[float | None, typer.Option(min=0, max=1, metavar="SHARE", help="From 0 to 1, for example 0.9.")]


@app.command("lint")
def lint_(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Policy files; default: all of `POLICIES_DIR`.", show_default=False),
    ] = None,
) -> None:
    """Check policy files: their parts, their length, and whether two are nearly the same.

    All problems are listed, each with file and line. The exit code is 1 when there is one. The length is counted with
    the tokenizer of `MODEL_SET` if it is on this host; otherwise it is an estimate, and called one.

    For example:

    - `audio-pipeline policy lint`

    - `audio-pipeline policy lint drafts/hate-speech.md`
    """
    context: Context = ctx.obj
    directory = context.policy_settings.policies_dir
    chosen = files or sorted(path for path in directory.glob("*.md") if path.name != "README.md")
    if not chosen:
        raise PolicyError(f"there is no policy in {directory}; correct POLICIES_DIR, or name the files")
    reading = model.reading(context.policy_settings)
    done = lint(chosen, reading, _installed(directory) if files else ())
    for finding in done.findings:
        context.say(f"{finding.path}:{finding.line}: {'' if finding.wrong else 'remark: '}{finding.text}")
    for path, tokens in done.tokens.items():
        about = "" if reading.exact else "about "
        context.say(f"{path}: {about}{tokens:,} of {reading.max_tokens:,} tokens")
    if not reading.exact:
        context.say(f"The tokens are estimated from the characters: the tokenizer of {reading.model} is not here")
    if done.problems:
        context.fail(f"{counted(len(done.problems), 'problem')} in {counted(len(chosen), 'file')}")
    context.say(f"{counted(len(chosen), 'file')} without problems")


@app.command("test")
def measure_(
    ctx: typer.Context,
    names: Policies = None,
    *,
    examples: Examples = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Instead of the one that a worker uses.", show_default=False)
    ] = None,
    min_precision: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="SHARE", help="Exit code 1 when the precision is below.")
    ] = None,
    min_recall: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="SHARE", help="Exit code 1 when the recall is below.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many mistakes to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Score examples and compare the verdicts with the labels that people gave.

    Prints precision, recall and F1, each with a 95 % interval, the counts, and the mistakes, the worst first. An
    interval says how much the number may differ on other examples of the same kind: few examples give a wide one.

    The model of `MODEL_SET` is loaded, which takes seconds to minutes.

    For example:

    - `audio-pipeline policy test`

    - `audio-pipeline policy test hate-speech --examples labelled.csv --min-precision 0.8 --min-recall 0.7`
    """
    context: Context = ctx.obj
    settings = context.policy_settings
    cases = [(policy, read_examples(path, policy.id)) for policy, path in _cases(settings, names, examples)]
    results = []
    scorer = load_scorer(context, settings)
    with bar(context, "score", sum(len(texts) for _, texts in cases)) as advance:
        for policy, texts in cases:
            results.append(measure(scorer, policy, score_examples(scorer, policy, texts, advance), threshold))
    if as_json:
        context.json([_measured_json(result) for result in results])
    else:
        for result in results:
            _show_measured(context, result, worst)
    below = [problem for result in results for problem in _below(result, min_precision, min_recall)]
    if below:
        context.fail("; ".join(below))


@app.command("calibrate")
def calibrate_(
    ctx: typer.Context,
    name: PolicyName,
    *,
    examples: Examples = None,
    precision: Wished = None,
    recall: Wished = None,
    as_json: AsJson = False,
) -> None:
    """Find the threshold at which a policy reaches a wished precision or recall, and print the line that sets it.

    The numbers are those of the examples on which the threshold was chosen, so they are a little too good. Check the
    threshold with `policy test` on other examples.

    For example:

    - `audio-pipeline policy calibrate hate-speech --examples labelled.csv --precision 0.9`
    """
    context: Context = ctx.obj
    settings = context.policy_settings
    if (precision is None) == (recall is None):
        raise typer.BadParameter("give either --precision or --recall")
    goal: Goal = "recall" if precision is None else "precision"
    wished = float(recall if precision is None else precision)  # type: ignore[arg-type]  # one of them is given
    [(policy, path)] = _cases(settings, [name], examples)
    texts = read_examples(path, policy.id)
    scorer = load_scorer(context, settings)
    with bar(context, "score", len(texts)) as advance:
        scored = score_examples(scorer, policy, texts, advance)
    found = calibrate(scored, goal, wished)
    own = scorer.threshold(policy)
    if as_json:
        context.json(_calibration_json(policy, scorer, found))
        return
    _show_calibration(context, policy, scorer, found, len(texts))
    if own != policy.threshold:
        context.say(f"{scorer.name} has a threshold of its own for {policy.id}, {own:g}, which counts: change that one")
    context.say(f"In the file of the policy:                     threshold = {found.threshold}")
    context.say(f"Or for this model only, in src/models.toml:    {model.threshold_line(policy, found.threshold)}")


def known_policy(settings: Settings, name: str) -> Policy:
    """The policy with that id, or in that file; raises UnknownError or PolicyError."""
    if name.endswith(".md"):
        return load_policy(Path(name))
    policies = {policy.id: policy for policy in load_policies(settings.policies_dir)}
    if name not in policies:
        raise UnknownError(f"{settings.policies_dir} has no policy {name}; there are {', '.join(policies)}")
    return policies[name]


def load_scorer(context: Context, settings: Settings) -> Scorer:
    """Load the moderation model, and say so meanwhile at a terminal."""
    with context.errors.status(f"loading the moderation model of the set {settings.model_set}"):
        return model.load_scorer(settings)


@contextmanager
def bar(context: Context, description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal -> a function that moves it on by so many."""
    with Progress(console=context.errors, transient=True, disable=not context.errors.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)


def _installed(directory: Path) -> Sequence[Policy]:
    """The policies to compare a draft with; none if they cannot be read, which is not the draft's problem."""
    try:
        return load_policies(directory)
    except PolicyError:
        return ()


def _cases(settings: Settings, names: list[str] | None, examples: Path | None) -> list[tuple[Policy, Path]]:
    """Each policy with its file of examples."""
    cases = []
    for name in names or [policy.id for policy in load_policies(settings.policies_dir)]:
        folder = Path(name).parent if name.endswith(".md") else settings.policies_dir
        policy = known_policy(settings, name)
        cases.append((policy, examples or folder / "tests" / f"{policy.id}.jsonl"))
    return cases


def _show_measured(context: Context, result: Measured, worst: int) -> None:
    policy, counts = result.policy, result.confusion
    context.say(
        f"{policy.id}@{policy.version} by {result.model} (prompt {result.prompt_version}), "
        f"threshold {result.threshold:g}, {counted(counts.total, 'example')}"
    )
    _show_shares(context, counts)
    if longer := sum(item.truncated for item in result.scored):
        context.say(f"The middle of {counted(longer, 'text')} was left out, because the model reads less at once")
    mistakes = result.mistakes
    if mistakes and worst:
        table = Table("LINE", "SCORE", "MISTAKE", "TEXT", box=None, pad_edge=False)
        for item in mistakes[:worst]:
            kind = "missed" if item.example.violates else "false alarm"
            table.add_row(str(item.example.line), f"{item.score:.4f}", kind, cell(item.example.text, TEXT_CHARS))
        context.console.print(table)
    if len(mistakes) > worst:
        context.say(f"{counted(len(mistakes) - worst, 'more mistake')}; --worst shows more")
    context.say("")


def _show_shares(context: Context, counts: Confusion) -> None:
    for title, share in (("precision", counts.precision), ("recall", counts.recall), ("F1", counts.f1)):
        context.say(f"{title:12}{_share(share)}")
    table = Table("", "VIOLATES", "DOES NOT", box=None, pad_edge=False)
    table.add_row("flagged", str(counts.hits), str(counts.false_alarms))
    table.add_row("not flagged", str(counts.misses), str(counts.rest))
    context.console.print(table)


def _share(share: Share) -> str:
    if share.value is None:
        return "not defined: nothing to count"
    between = f"  (95 %: {share.interval.low:.3f} to {share.interval.high:.3f})" if share.interval else ""
    return f"{share.value:.3f}{between}"


def _below(result: Measured, min_precision: float | None, min_recall: float | None) -> Iterator[str]:
    counts = result.confusion
    bars = (("precision", counts.precision, min_precision), ("recall", counts.recall, min_recall))
    for title, share, least in bars:
        if least is not None and (share.value is None or share.value < least):
            value = "not defined" if share.value is None else f"{share.value:.3f}"
            yield f"the {title} of {result.policy.id} is {value}, but must be at least {least:g}"


def _show_calibration(context: Context, policy: Policy, scorer: Scorer, found: Calibration, count: int) -> None:
    context.say(f"{policy.id}@{policy.version} by {scorer.name}: {counted(count, 'example')}")
    low, high = found.interval.low, found.interval.high
    context.say(f"{'threshold':12}{found.threshold}  (95 %: {low:g} to {high:g}, from drawing the examples anew)")
    _show_shares(context, found.confusion)
    if found.reached < 1:
        context.say(f"On {100 * (1 - found.reached):.0f} % of the drawings no threshold reached it: add examples")


def _measured_json(result: Measured) -> dict[str, Any]:
    return {
        "policy": result.policy.id,
        "version": result.policy.version,
        "model": result.model,
        "prompt_version": result.prompt_version,
        "threshold": result.threshold,
        **_confusion_json(result.confusion),
        "mistakes": [
            {"line": item.example.line, "text": item.example.text, "label": int(item.example.violates),
             "score": item.score}
            for item in result.mistakes
        ],
    }  # fmt: skip


def _calibration_json(policy: Policy, scorer: Scorer, found: Calibration) -> dict[str, Any]:
    return {
        "policy": policy.id,
        "version": policy.version,
        "model": scorer.name,
        "threshold": found.threshold,
        "interval": [found.interval.low, found.interval.high],
        "reached": found.reached,
        **_confusion_json(found.confusion),
    }


def _confusion_json(counts: Confusion) -> dict[str, Any]:
    shares = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    return {
        "examples": counts.total,
        "counts": vars(counts),
        **{
            name: {"value": share.value, "interval": share.interval and [share.interval.low, share.interval.high]}
            for name, share in shares.items()
        },
    }
