from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p8.errors import FormatError
from p8.formats.reports import newest_coverage, newest_tests, read_coverage, read_junit

LCOV = "TN:\nSF:a.js\nDA:1,1\nLF:10\nLH:7\nend_of_record\nSF:b.js\nLF:30\nLH:13\nend_of_record\n"
COBERTURA = """<?xml version="1.0" ?>
<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">
<coverage line-rate="0.5"><packages><package><classes><class><lines>
<line number="1" hits="1"/><line number="2" hits="0"/></lines></class></classes></package></packages></coverage>
"""
JUNIT = """<?xml version="1.0"?><testsuites tests="99"><testsuite name="a">
<testcase name="1" time="0.5"/><testcase name="2" time="1,000.25"><failure message="x">y</failure></testcase>
<testcase name="3"><skipped/></testcase><testcase name="4"><error/><failure/></testcase>
</testsuite></testsuites>"""


def put(folder: Path, name: str, text: str, at: int = 0) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    if at:
        os.utime(file, (at, at))
    return file


def test_each_kind_of_coverage_by_hand(tmp_path: Path) -> None:
    totals = {"totals": {"covered_lines": 3, "num_statements": 4}}
    for name, text, expected in (
        ("lcov.info", LCOV, (20, 40)), ("coverage.xml", COBERTURA, (1, 2)),
        ("coverage.json", json.dumps(totals), (3, 4)),
        ("c.xml", '<coverage line-rate="0.9" lines-valid="50" lines-covered="45"/>', (45, 50)),
    ):  # fmt: skip
        found = read_coverage(put(tmp_path, name, text))
        assert (found.covered, found.lines) == expected
    assert found.percent == 90


def test_the_newest_that_can_be_read_counts(tmp_path: Path) -> None:
    put(tmp_path, "coverage.xml", COBERTURA, at=1000)
    put(tmp_path, "coverage/lcov.info", LCOV, at=2000)
    put(tmp_path, "coverage.json", "{broken", at=3000)
    found = newest_coverage(tmp_path)

    assert found is not None
    assert (found.source, found.percent, found.time_s) == ("coverage/lcov.info", 50, 2000)
    assert newest_coverage(tmp_path / "none") is None


def test_junit_by_hand(tmp_path: Path) -> None:
    found = read_junit(put(tmp_path, "junit.xml", JUNIT))

    assert (found.total, found.failed, found.skipped, found.passed) == (4, 2, 1, 1)
    assert found.duration_s == 1000.75


def test_a_folder_of_junit_reports_counts_as_one(tmp_path: Path) -> None:
    put(tmp_path, "target/surefire-reports/TEST-a.xml", JUNIT)
    put(tmp_path, "target/surefire-reports/TEST-b.xml", JUNIT)
    found = newest_tests(tmp_path)

    assert found is not None
    assert (found.total, found.failed, found.source) == (8, 4, "target/surefire-reports")


@pytest.mark.parametrize(
    "text",
    [
        "", "<a>", "<html/>", "[1]", '{"totals": 1}', "hello", "LF:x\nend_of_record", "\x00\xff",
        '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><coverage line-rate="&d;"/>',
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    file = put(tmp_path, "coverage.xml", text)
    with pytest.raises(FormatError):
        read_coverage(file)
    with pytest.raises(FormatError):
        read_junit(file)


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    put(tmp_path, "secret", COBERTURA)
    (tmp_path / "coverage.xml").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "coverage.json")
    assert newest_coverage(tmp_path) is None


def test_what_pytest_itself_writes(tmp_path: Path) -> None:
    put(
        tmp_path,
        "test_x.py",
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\n@pytest.mark.skip\ndef test_c(): pass\n",
    )
    command = [sys.executable, "-m", "pytest", "-q", "--junitxml=junit.xml", "-p", "no:cacheprovider", "."]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    found = newest_tests(tmp_path)

    assert found is not None
    assert (found.total, found.failed, found.skipped) == (3, 1, 1)
