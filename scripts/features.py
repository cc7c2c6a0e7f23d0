"""Prints `package feature` for each feature of the workspace, from `cargo metadata` on standard input."""

import json
import sys

for package in json.load(sys.stdin)["packages"]:
    for feature in sorted(package["features"]):
        if feature != "default":
            print(package["name"], feature)
