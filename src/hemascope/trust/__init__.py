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
from hemascope.trust.degradations import CLEAN, Degradation, degradations
from hemascope.trust.estimate import (
    AccuracyEstimate,
    Estimate,
    MeasuredBatch,
    SpotCheck,
    draw_spot_check,
    fit_estimate,
    measured_batch,
    spot_check,
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
    "CLEAN",
    "AccuracyEstimate",
    "Calibration",
    "ConformalSets",
    "Coverage",
    "CoverageTable",
    "Degradation",
    "Estimate",
    "MeasuredBatch",
    "RejectRule",
    "Reliability",
    "RiskCoverage",
    "SpotCheck",
    "coverage_table",
    "degradations",
    "draw_spot_check",
    "fit_calibration",
    "fit_estimate",
    "fit_sets",
    "measured_batch",
    "precision_at",
    "prediction_sets",
    "reject_rule",
    "reliability",
    "restated",
    "risk_coverage",
    "rows_for",
    "rows_needed",
    "spot_check",
    "upper_bound",
]
