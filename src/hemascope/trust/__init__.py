"""When a prediction should not be trusted: what is fitted on calibration rows once a model is trained."""

from hemascope.trust.calibration import (
    Calibration,
    Reliability,
    fit_calibration,
    precision_at,
    reliability,
    restated,
)
from hemascope.trust.conformal import (
    ConformalSets,
    Coverage,
    CoverageTable,
    coverage_table,
    fit_sets,
    prediction_sets,
    rows_for,
)
from hemascope.trust.rejection import (
    RejectRule,
    RiskCoverage,
    reject_rule,
    risk_coverage,
    rows_needed,
    upper_bound,
)

__all__ = [
    "Calibration",
    "ConformalSets",
    "Coverage",
    "CoverageTable",
    "RejectRule",
    "Reliability",
    "RiskCoverage",
    "coverage_table",
    "fit_calibration",
    "fit_sets",
    "precision_at",
    "prediction_sets",
    "reject_rule",
    "reliability",
    "restated",
    "risk_coverage",
    "rows_for",
    "rows_needed",
    "upper_bound",
]
