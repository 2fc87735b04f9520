"""What an audit found as one HTML page: `write_audit_report`."""

from hemascope.audit_report.groups import MOST_GROUPS
from hemascope.audit_report.page import MOST_ROWS, write_audit_report

__all__ = ["MOST_GROUPS", "MOST_ROWS", "write_audit_report"]
