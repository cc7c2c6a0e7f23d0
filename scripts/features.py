"""Prints `package feature` for each feature of the workspace, from `cargo metadata` on standard input.

Left out is a feature that another package's turns on, and nothing else beside it in the same package: where the other
one compiles, so does this one.
"""

import json
import sys

packages = {package["name"]: package["features"] for package in json.load(sys.stdin)["packages"]}


def turned_on(package: str, feature: str) -> dict[str, set[str]]:
    """The features that this one turns on, by package."""
    found: dict[str, set[str]] = {}
    waiting = [(package, feature)]
    while waiting:
        package, feature = waiting.pop()
        if feature in found.setdefault(package, set()):
            continue
        found[package].add(feature)
        for item in packages[package][feature]:
            other, _, name = item.rpartition("/")
            other = other.removesuffix("?") or package
            if other in packages and name in packages[other]:
                waiting.append((other, name))
    return found


alone = {
    (other, next(iter(features)))
    for package in packages
    for feature in packages[package]
    for other, features in turned_on(package, feature).items()
    if other != package and len(features) == 1
}
for package, features in packages.items():
    for feature in sorted(features):
        if feature != "default" and (package, feature) not in alone:
            print(package, feature)
