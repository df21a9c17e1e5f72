"""The page, and the policy that it comes with."""

from collections.abc import Mapping
from typing import Any

from app.contracts.outcome import REJECTED
from app.web.rendering import environment
from app.web.report import leaves  # noqa: F401 - filters of the templates
from app.web.report.inlined import inlined
from app.web.report.sections import sections
from app.web.report.verdict import verdict


def render_report(model: str, row: Mapping[str, Any], report: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The page for one variant, and headers for it: `row` is its row of the comparison, `report` the whole report.

    The page holds all that it needs, its policy included, and so works from disk. Everything is escaped: names come
    from clients.
    """
    within = inlined()
    page = environment.get_template("report/page.html").render(
        model=model,
        row=row,
        is_original=row["method"] == "original",
        rejected=row["verdict"] == REJECTED,
        verdict=verdict(row),
        quality=report.get("quality") or {},
        sections=sections(model, row, report),
        style=within.style,
        script=within.script,
        policy=within.policy,
    )
    headers = {
        "Content-Security-Policy": f"{within.policy}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }
    return page, headers
