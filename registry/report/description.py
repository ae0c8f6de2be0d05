"""The version's description in the MLflow UI: short Markdown that a hostile name cannot break out of.

Characters with a meaning in Markdown are written as character references, which every flavour of it shows and none interprets.
The text stays below :data:`MOST` characters: notes are shortened first, then passed gates are counted instead of listed; the
verdict and how to decide are always there.
"""

from __future__ import annotations

import re
from typing import Any

from registry.report.review import HEADLINES, ICONS, Review, copied, cost_rows, duties, gains, gate_rows, metric_rows, plain

MOST = 4500
REPORT = "report.html in the run of this upgrade"
SPECIAL = re.compile(r"[&<>`|*_\[\]\\~$@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
# (characters of a note, of a problem, most problems, most rows of the gate table, whether each measurement or each gate has a row,
# whether passed gates are listed, items of costs and covers)
DETAIL = (
    (240, 300, 8, 40, "each", True, 12),
    (110, 200, 6, 30, "each", True, 10),
    (160, 200, 6, 30, "gate", True, 10),
    (90, 160, 5, 30, "gate", True, 8),
    (0, 160, 5, 24, "gate", True, 8),
    (0, 110, 4, 8, "gate", False, 6),
    (0, 70, 2, 5, "gate", False, 3),
)
WORST_FIRST = ("refused", "inconclusive", "passed", "not applicable")


def escape(text: object, most: int) -> str:
    """``text`` as one line of Markdown that means itself, at most ``most`` characters with its escapes."""

    def reference(match: re.Match[str]) -> str:
        return f"&#{ord(match[0])};"

    line = plain(text)
    for length in range(min(len(line), most), -1, -1):
        cut = line if length == len(line) else line[:length].rstrip() + "…"
        found = SPECIAL.sub(reference, cut)
        found = re.sub(r"^(\d+)([.)])(?=\s|$)", lambda m: f"{m[1]}&#{ord(m[2])};", found)  # an ordered list
        found = re.sub(r"^[-+#=]", reference, found)  # a list, a heading
        if len(found) <= most:
            return found
    return ""


def code(text: str) -> str:
    """A code span that shows ``text`` exactly, whatever backticks it holds. Not for table cells (a pipe would end one)."""
    text = plain(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{'`' * (longest + 1)}{pad}{text}{pad}{'`' * (longest + 1)}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows), ""]


def _approve_value(review: Review) -> str:
    """The value to copy; if it is too long to be a tag that counts, the form of it."""
    return review.approve_value if len(review.approve_value) <= 170 else f"<your name> {plain(review.verdict['digest'])}"


def decisions(review: Review) -> list[tuple[str, str]]:
    """What a person can do now: (sentence before, command or tag value to copy); the page shows the same."""
    version = plain(review.verdict["version"], 20)
    reject = ("To reject it", f"fct reject {version} --by NAME --why TEXT")
    if review.outcome == "passed":
        return [
            ("To approve it, set the tag fct.approve on this version in the MLflow UI to", _approve_value(review)),
            ("or type", f"fct approve {version} --by NAME --why TEXT"),
            reject,
        ]
    if review.outcome == "inconclusive":
        return [("It cannot be approved yet. Add evaluation images, then type", f"fct upgrade {version}"), reject]
    return [("No approval lifts a refusal. Register a better version with", "fct register"), reject]


def consequence(review: Review) -> str:
    """What an approval changes, in plain words (no Markdown, nothing of a user)."""
    version, before = plain(review.verdict["version"], 20), plain(review.verdict.get("from"), 20)
    exactly = "It holds for exactly what is listed here; anything else needs a new verdict."
    when = "by itself, at the next look at the registry" if review.auto else f"once somebody types fct promote {version}"
    proof = "A tag proves that somebody with write access set it; the name in it is only declared."
    if review.first:
        return f"An approval lets version {version} and its gallery serve, {when}. {exactly} {proof}"
    return (
        f"Until then version {before} serves unchanged. An approval lets version {version} and its carried-over gallery take over together, {when};"
        f" fct rollback returns to version {before}. {exactly} {proof}"
    )


def _covered(value: Any) -> str:
    """One digest, or how many there are."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return _covered(value[0]) if len(value) == 1 else f"{len(value)} entries"
    text = plain(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def _merged(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """One row a gate, its worst measurement, which says how many others there are."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["gate"], []).append(row)
    out = []
    for several in found.values():
        worst = min(several, key=lambda row: WORST_FIRST.index(row["outcome"]) if row["outcome"] in WORST_FIRST else len(WORST_FIRST))
        more = f" (and {len(several) - 1} more)" if len(several) > 1 else ""
        out.append(worst | {"subject": f"{plain(worst['subject'], 40)}{more}"})
    return out


def _gates(every: list[dict[str, str]], note: int, most: int, rows_of: str, passed: bool) -> list[str]:
    rows = _merged(every) if rows_of == "gate" else every
    order = {"refused": 0, "inconclusive": 1}
    shown = rows if passed else [row for row in rows if row["outcome"] in order]
    if len(shown) > most:
        shown = sorted(shown, key=lambda row: order.get(row["outcome"], 2))[:most]
    head = ["gate", "of what", "value", "bound", "outcome", *(["note"] if note else [])]
    cells = []
    for row in shown:
        cell = [
            escape(row["title"], 60),
            escape(row["subject"], 60),
            f"{row['value']} {row['interval']}".strip(),
            escape(row["bound"], 24),
            f"{row['icon']} {escape(row['outcome'], 30)}",
        ]
        cells.append([*cell, *([escape(row["note"], note)] if note else [])])
    out = _table(head, cells) if cells else []
    if len(shown) < len(every):
        out += [
            f"{len(every) - len(shown)} more measurements ({sum(row['outcome'] == 'passed' for row in every)} of {len(every)} passed) are in the report.",
            "",
        ]
    return out


def _write(review: Review, every: list[dict[str, str]], detail: tuple[int, int, int, int, str, bool, int]) -> str:
    note, problem, problems, gates, rows_of, passed, items = detail
    verdict = review.verdict
    came = "a first release" if review.first else f"upgrade from version {escape(verdict['from'], 20)}"
    icon = ICONS.get(review.outcome, "·")
    name = f"{escape(verdict['model'], 100)} version {escape(verdict['version'], 20)}"
    out = [
        f"**{icon} {name} {HEADLINES.get(review.outcome, escape(review.outcome, 30))}** ({came}; verdict {escape(plain(verdict['digest'])[:12], 80)})",
        "",
    ]
    found = list(verdict["problems"])
    if found:
        out += ["What stands in the way:", "", *(f"- {escape(text, problem)}" for text in found[:problems])]
        out += [f"- and {len(found) - problems} more, in the report"] if len(found) > problems else []
        out += [""]
    out += [f"{escape(sentence, 300)}\n" for sentence in [*gains(review), *copied(review), *duties(review)]]
    rows = [row for row in metric_rows(review) if row["metric"] != "top-5"][: 12 if passed else 4]
    if rows:
        out += _table(
            ["classes", "metric", "old/old", "new/h(old)", "new/new", "ρ"],
            [[escape(row["population"], 60), row["metric"], row["oo"], row["nh"], row["nn"], row["rho"]] for row in rows],
        )
        out += ["Fractions; in brackets the one-sided 0.95 bounds.", ""]
    out += _gates(every, note, gates, rows_of, passed)
    costs = [f"{escape(what, 60)} {escape(amount, 60)}" for what, amount in cost_rows(review)[:items]]
    out += ["Costs: " + " · ".join(costs), ""] if costs else []
    out += [consequence(review), ""]
    covers = list(verdict["covers"].items())
    listed = [f"{escape(what, 50)} {escape(_covered(value), 40)}" for what, value in covers[:items]]
    listed += [f"and {len(covers) - items} more"] if len(covers) > items else []
    out += ["An approval covers: " + ", ".join(listed), ""] if listed else []
    out += [f"- {before}: {code(value)}" for before, value in decisions(review)]
    report = f"[{REPORT}]({review.page})" if review.page else REPORT
    return "\n".join([*out, "", f"Charts, lost queries with pictures and provenance: {report}."]) + "\n"


def markdown(review: Review) -> str:
    """The description of the version, always shorter than :data:`MOST` characters."""
    text, every = "", gate_rows(review)
    for detail in DETAIL:
        text = _write(review, every, detail)
        if len(text) < MOST:
            break
    return text
