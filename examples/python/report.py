"""Turns a usage file into a report: `python report.py usage.csv`."""

import sys

from netra_apex import analyse

report = analyse(sys.argv[1])
print(report)
for finding in report.findings:
    print(f"- {finding['severity']}: {finding['title']}")
print("open", report.save("apex-report") / "report.html")
