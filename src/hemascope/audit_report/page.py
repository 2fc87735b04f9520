"""The page of an audit: one HTML file that shows what was found, loads nothing and can be mailed or printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemascope.audit.findings import ISSUES, Audit
from hemascope.audit.shortcuts import NOTEWORTHY
from hemascope.audit_report.groups import sections_of, thumbnails
from hemascope.audit_report.spread import figures_of, histograms_of
from hemascope.audit_report.words import records, shortened
from hemascope.data.cells import Cells
from hemascope.files import replacing
from hemascope.report import render
from hemascope.version import __version__
from hemascope.wording import capitalised

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 2_000
"""The table holds no more rows than this, so that a browser sorts and searches it at once."""

ISSUE_NAMES: Mapping[str, str] = {
    "unreadable": "unreadable",
    "not_a_cell": "not a cell",
    "exact_copy": "exact copy",
    "near_copy": "near copy",
    "leak": "leak",
    "label_suspect": "suspect label",
    "outlier": "outlier",
}


def write_audit_report(audit: Audit, folder: Path, against: Sequence[Cells] = ()) -> Path:
    """Write `audit.html` into a folder; returns its path.

    against: the sets that the audit looked at beside its own, to show the other picture of a leak; without them only
    its id is named. The page opens from disk without a network and works without JavaScript. It shows at most 172
    thumbnails and MOST_ROWS rows, and says what it leaves out; the tables that `Audit.write` writes have everything.
    """
    cells = audit.cells
    findings = audit.findings
    parts = (cells, *against)
    sections = sections_of(audit, parts)
    kept = findings["advice"].to_numpy()[: len(cells)] == "keep"
    advice = audit.advice
    listed = _listed(findings)
    context = {
        "title": f"Audit of {shortened(cells.source) or 'cells'}",
        "version": __version__,
        "source": shortened(cells.source),
        "against": [shortened(other.source) for other in against],
        "verdict": capitalised(audit.verdict),
        "advice": advice,
        "to_look_at": audit.to_look_at,
        "leaks": int(findings["is_leak"].sum()),
        "findings": [
            {
                "kind": "care" if finding.care else "know",
                "name": capitalised(ISSUE_NAMES.get(finding.name, finding.name)),
                "number": finding.shown or f"{finding.number:,.0f}",
                "text": _as_sentence(finding.sentence),
                "section": finding.name if finding.name in {section.issue for section in sections} else "",
            }
            for finding in sorted(audit.sentences, key=lambda finding: not finding.care)
        ],
        "sections": sections,
        "thumbnails": thumbnails(parts, sections),
        "figures": figures_of(audit, findings["advice"].to_numpy()[: len(cells)] != "drop"),
        "histograms": histograms_of(audit, ~kept),
        "shortcuts": records(audit.shortcuts),
        "shortcut_from": (1 + NOTEWORTHY) / 2,
        "listed": listed,
        "unlisted": len(findings) - advice["keep"] - len(listed),
        "has_split": bool((findings["split"] != "").any()),
    }
    page = folder / "audit.html"
    with replacing(page) as temporary:
        # A file name need not be text; what is none shows as a question mark.
        temporary.write_bytes(render("audit.html.j2", context).encode("utf-8", "replace"))
    return page


def _listed(findings: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows to drop or to look at: those that each say something of their own first, repeated pictures last."""
    rows = findings[findings["advice"] != "keep"]
    scores = rows[[f"{issue}_score" for issue in ISSUES]].astype(float).min(axis=1)
    order = rows.assign(
        last=rows["is_not_a_cell"].astype(bool),
        settled=rows["advice"] != "look",
        worst=scores,
    ).sort_values(["last", "settled", "worst"], kind="stable")
    return [
        {
            "id": shortened(row["id"]),
            "label": shortened(row["label"]),
            "split": row["split"],
            "advice": row["advice"],
            "issues": ", ".join(name for issue, name in ISSUE_NAMES.items() if row[f"is_{issue}"]),
            "worst": row["worst"],
            "suggested": shortened(row["suggested_label"]),
            "reason": shortened(row["reason"]),
        }
        for row in records(order.head(MOST_ROWS))
    ]


def _as_sentence(text: str) -> str:
    whole = capitalised(text)
    return whole if whole.endswith((".", "!", "?", "…")) else f"{whole}."
