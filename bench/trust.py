"""All figures on when to believe `small`: calibration, outliers, drift, heat maps, refits.

Each part is a script of its own beside this one, which says what it measures and on what; here they run one after the
other, each in a process of its own. Takes some twenty minutes on one core. The last line printed is one line of JSON
with the figures of all parts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PARTS = ("trust_calibration", "trust_outliers", "trust_drift", "trust_explain", "refit")


def main() -> int:
    found = {}
    for part in PARTS:
        print(f"== {part}", flush=True)
        lines: list[str] = []
        command = [sys.executable, str(Path(__file__).with_name(f"{part}.py"))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                print(lines[-1], flush=True)
        if process.returncode:
            print(f"{part} ended with status {process.returncode}; its figures are missing.")
            return process.returncode
        found[part] = json.loads(lines[-1])
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
