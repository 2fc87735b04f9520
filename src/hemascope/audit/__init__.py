"""Everything that is wrong with a set of pictures, found before training: `audit` -> `Audit`."""

from hemascope.audit.apply import apply, read_decisions
from hemascope.audit.findings import ADVICE, ISSUES, Audit, audit

__all__ = ["ADVICE", "ISSUES", "Audit", "apply", "audit", "read_decisions"]
