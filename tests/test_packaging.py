"""What is built and installed: what must travel in the wheel, and what it asks of those who install it."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source archive, built from this checkout without any network."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def metadata(built):
    with zipfile.ZipFile(built[0]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """The wheel as it lies in an environment: nothing of the checkout is beside it."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(folder)
    return folder


def run_there(unpacked, tmp_path, code):
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(unpacked)!r})\n{code}"], cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_wheel_holds_what_the_package_reads(built):
    """Types, the country table, the protected list and the example orders travel; tests and scripts do not."""
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
    assert {
        "cdnblock/py.typed",
        "cdnblock/sources/default_table.bin",
        "cdnblock/orders/protected.txt",
        "cdnblock/measures/notice/wording.py",
    } <= names
    dashboard = {
        path for path in (ROOT / "cdnblock" / "dashboard").rglob("*") if path.suffix != ".pyc" and path.is_file()
    }
    assert {str(path.relative_to(ROOT)) for path in dashboard} <= names
    orders = {f"cdnblock/sandbox/example_orders/{path.name}" for path in (ROOT / "examples" / "orders").iterdir()}
    assert orders <= names
    assert {f"cdnblock/{path.relative_to(ROOT / 'cdnblock')}" for path in (ROOT / "cdnblock").rglob("*.py")} <= names
    assert {name.split("/")[0] for name in names} == {"cdnblock", f"cdnblock-{PROJECT['version']}.dist-info"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_source_archive_holds_what_the_tests_read(built):
    """From the source archive everything can be built and tested, the README's picture included."""
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".ci/run", ".readme/overview.svg",
        "examples/01_decide.py", "examples/orders/tjp-2025-03-28-motogp.yaml", "tests/test_packaging.py",
        "cdnblock/py.typed",
    } <= names  # fmt: skip


def test_the_wheel_works_alone(unpacked, tmp_path):
    """Away from the checkout the package loads its example orders, its country table and its lists, and decides."""
    code = """
import cdnblock, datetime, pathlib
folder = pathlib.Path(cdnblock.__file__).parent
with cdnblock.Enforcer(folder / "sandbox" / "example_orders", follow=False, clock=lambda: 1746093600.0) as enforcer:
    decision = enforcer.decide("www.motogpstream.me", "90.84.144.1")
print(folder.parent, decision.country, sorted(decision.measures))
"""
    done = run_there(unpacked, tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{unpacked} FR [<Measure.CDN: 'cdn'>, <Measure.DNS: 'dns'>, <Measure.PROXY: 'proxy'>]\n"


def test_the_sandbox_of_the_wheel_finds_its_orders(unpacked, tmp_path):
    """Installed, `cdnblock sandbox` without --orders rehearses the examples in the package."""
    done = run_there(unpacked, tmp_path, "import cdnblock.cli.sandbox as s; print(s._examples())")
    assert done.stdout.strip() == f"{unpacked}/cdnblock/sandbox/example_orders", done.stderr


def test_the_contract_of_the_wheel_finds_its_scenarios(unpacked, tmp_path):
    """Installed, `cdnblock.testing` has every scenario of this checkout: others prove their hosts with it."""
    done = run_there(
        unpacked, tmp_path,
        "from cdnblock.testing.scenarios import *\nfrom cdnblock.testing.dns_scenarios import read_dns_scenarios\n"
        "print(len(read_scenarios()) + sum(found.own for found in read_dns_scenarios()), scenarios_folder())",
    )  # fmt: skip
    files = (ROOT / "tests" / "scenarios").rglob("*.yaml")
    here = sum(path.read_text(encoding="utf-8").count("scenario: ") for path in files)
    assert done.stdout.strip() == f"{here} {unpacked}/cdnblock/testing/scenarios", done.stderr


def test_the_version_is_told(unpacked, tmp_path):
    """`cdnblock --version` prints the version of the project."""
    done = run_there(
        unpacked, tmp_path, "sys.argv = ['cdnblock', '--version']\nfrom cdnblock.__main__ import main; main()"
    )
    assert done.stdout == f"{PROJECT['version']}\n", done.stderr


def test_nothing_is_capped(metadata):
    """No dependency has an upper bound or a pin: whoever installs this beside other things must be able to."""
    for requirement in metadata.get_all("Requires-Dist"):
        specifier = requirement.partition(";")[0]
        assert not re.search(r"<|==|~=|!=", specifier), requirement
        assert ">=" in specifier or "cdnblock[" in specifier or specifier.strip() == "tzdata", requirement


def test_extras_are_these(metadata):
    """The extras are dashboard, mitmproxy, dns, all and test; `all` is the first three and nothing else."""
    assert sorted(metadata.get_all("Provides-Extra")) == ["all", "dashboard", "dns", "mitmproxy", "test"]
    needed = [
        re.match(r"[\w.-]+(?:\[.*?\])?", text)[0]
        for text in metadata.get_all("Requires-Dist")
        if re.search(r"extra == ['\"]all['\"]", text)
    ]
    # Builders write an extra that refers to the project itself as it is, or resolved.
    assert sorted(needed) in (["cdnblock[dashboard,dns,mitmproxy]"], ["dnspython", "h2", "mitmproxy", "uvloop"])


def test_the_library_needs_neither_mitmproxy_nor_dnspython(metadata):
    """What is installed without an extra is light."""
    plain = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    names = {re.match(r"[\w.-]+", text)[0].lower() for text in plain}
    assert not names & {"mitmproxy", "dnspython", "pytest", "hypothesis", "mypy", "ruff"}


def test_metadata_says_what_it_is(metadata):
    """Name, version, Python, licence, command and the README as the long description."""
    assert metadata["Name"] == "cdnblock"
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert metadata.get_payload().startswith("# cdnblock\n")


def test_the_changelog_has_this_version():
    """The newest entry of the changelog is the version that is being built."""
    newest = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert newest == PROJECT["version"]
