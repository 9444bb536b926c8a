"""What a wheel holds: every package and every data file, and no tests."""

import configparser
import re
from pathlib import Path


REPOSITORY = Path(__file__).resolve().parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(REPOSITORY / "setup.cfg")


def entries(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if not line.startswith("#")]


def test_every_package_is_listed():
    found = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for top in ("modeling_gpt1", "tokenization", "hub_upload")
        for path in (REPOSITORY / top).rglob("__init__.py")
    }
    assert set(entries(SETUP["options"]["packages"])) == found


def test_every_data_file_is_packaged():
    packaged = {
        path
        for package, patterns in SETUP["options.package_data"].items()
        for pattern in entries(patterns)
        for path in (REPOSITORY / package.replace(".", "/")).glob(pattern)
    }
    present = {
        path
        for top in ("modeling_gpt1", "tokenization", "hub_upload")
        for path in (REPOSITORY / top).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert present == packaged


def test_every_dependency_has_its_reason():
    lines = SETUP["options"]["install_requires"].strip().splitlines()
    text = (REPOSITORY / "setup.cfg").read_text(encoding="utf-8")
    for name in lines:
        above = text[: text.index(f"    {name}\n")].splitlines()[-1]
        assert above.strip().startswith("#"), f"{name} has no reason above it"


def test_pins_are_within_the_ranges_that_are_stated():
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
    ranges = dict(re.findall(r"^ *([\w-]+)>=([\d.]+)", (REPOSITORY / "setup.cfg").read_text(), re.MULTILINE))

    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    assert {"torch", "transformers"} <= set(pins) & set(ranges)
    for name in set(pins) & set(ranges):
        assert numbers(pins[name]) >= numbers(ranges[name]), name
