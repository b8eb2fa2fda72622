"""What the extension is packaged from: CMake, the two descriptions, the form, the requirements."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import cmake_lists
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "RadGSReg"


@pytest.mark.parametrize("folder", ["RadGSReg", "RadGSRegLib"])
def test_cmake_names_every_file(folder: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("the list of files comes from git")
    wanted, listed = cmake_lists.wanted(folder), cmake_lists.listed(folder)
    assert wanted == listed, "run: python Testing/cmake_lists.py"
    assert len(wanted[cmake_lists.SCRIPTS]) > 5


@pytest.mark.parametrize("folder", ["RadGSReg", "RadGSRegLib"])
def test_cmake_has_no_name_outside_its_lists(folder: str) -> None:
    text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")
    for kind in cmake_lists._kinds(folder):
        text = cmake_lists._pattern(kind).sub("", text)
    assert not re.findall(r"^\s*\S+\.py\s*$", text, re.MULTILINE)
    assert text.count("(") == text.count(")")


def test_cmake_installs_the_weights() -> None:
    for name in ("population", "levels"):
        listed = cmake_lists.listed("RadGSRegLib")[cmake_lists.MODELS]
        assert f"{name}.safetensors" in listed


def test_pip_installs_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="pip brings its own to build with")
    lib, info = tmp_path / "lib", tmp_path / "info"
    info.mkdir()
    build = ["setup.py", "-q", "egg_info", "-e", str(info), "build_py", "-d", str(lib)]
    subprocess.run([sys.executable, *build], cwd=ROOT, timeout=120, check=True, text=True)
    (sources,) = info.glob("*.egg-info/SOURCES.txt")
    ask = "from RadGSRegLib.networks.shipped import *; print(shipped_weights())"
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1]); " + ask, str(lib)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    installed = lib / "RadGSRegLib" / "Models" / "population.safetensors"
    assert Path(done.stdout.strip()) == installed
    assert installed.with_suffix(".md").is_file()
    shipped = Path("Resources", "Models", "population.safetensors")
    assert installed.read_bytes() == (ROOT / shipped).read_bytes()
    assert shipped.as_posix() in sources.read_text().splitlines()


def test_cmake_globs_nothing() -> None:
    for path in (ROOT / "CMakeLists.txt", *ROOT.glob("RadGS*/CMakeLists.txt")):
        assert "GLOB" not in path.read_text()


def _cmake() -> dict[str, str]:
    text = (ROOT / "CMakeLists.txt").read_text()
    return dict(re.findall(r'set\(EXTENSION_(\w+) "(.*?)"\)', text))


def _s4ext() -> dict[str, str]:
    lines = (ROOT / "RadGSReg.s4ext").read_text().splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def test_the_descriptions_agree() -> None:
    cmake, s4ext = _cmake(), _s4ext()
    catalog = json.loads((ROOT / "RadGSReg.json").read_text())
    assert cmake["HOMEPAGE"] == s4ext["homepage"] == s4ext["scmurl"] == catalog["scm_url"]
    assert cmake["CONTRIBUTORS"] == s4ext["contributors"]
    assert cmake["DESCRIPTION"] == s4ext["description"]
    assert cmake["ICONURL"] == s4ext["iconurl"]
    assert cmake["SCREENSHOTURLS"] == s4ext["screenshoturls"]
    raw = cmake["HOMEPAGE"].replace("github.com", "raw.githubusercontent.com") + "/main/"
    for url in (cmake["ICONURL"], *cmake["SCREENSHOTURLS"].split()):
        assert url.startswith(raw)
        assert (ROOT / url.removeprefix(raw)).is_file()
    assert cmake["DEPENDS"].split() == s4ext["depends"].split() == catalog["build_dependencies"]
    assert s4ext["category"] == catalog["category"] == "Registration"
    assert s4ext["scmrevision"] == catalog["scm_revision"]
    assert s4ext["build_subdirectory"] == catalog["build_subdirectory"]
    assert int(s4ext["tier"]) == catalog["tier"]
    assert (s4ext["enabled"] == "1") is catalog["enabled"]
    assert "esearch use only" in cmake["DESCRIPTION"]
    assert cmake["HOMEPAGE"] in (MODULE / "RadGSReg.py").read_text()


def test_the_catalog_entry_has_only_keys_of_the_schema() -> None:
    catalog = json.loads((ROOT / "RadGSReg.json").read_text())
    required = {"$schema", "category", "scm_url"}
    optional = {
        "scm_revision",
        "scm_type",
        "build_dependencies",
        "build_subdirectory",
        "dicom_support_rule",
        "enabled",
        "tier",
    }
    assert required <= set(catalog) <= required | optional
    assert catalog["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert catalog["scm_type"] in ("git", "local")
    assert 1 <= catalog["tier"] <= 5


def test_the_names_fit_the_index() -> None:
    assert _cmake()["HOMEPAGE"].rsplit("/", 1)[1].startswith("Slicer")
    assert "project(RadGSReg)" in (ROOT / "CMakeLists.txt").read_text()
    assert (ROOT / "LICENSE").is_file()


def test_the_icon() -> None:
    path = MODULE / "Resources" / "Icons" / "RadGSReg.png"
    assert _cmake()["ICONURL"].endswith(path.relative_to(ROOT).as_posix())
    with Image.open(path) as image:
        assert image.size == (128, 128)


def test_requirements_are_those_of_the_package_without_torch() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    lines = (MODULE / "Resources" / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    assert sorted(required) == sorted(d for d in dependencies if not d.startswith("torch"))
    (torch,) = [d for d in dependencies if d.startswith("torch")]
    environment = (MODULE / "RadGSRegSlicer" / "process" / "environment.py").read_text()
    assert f'TORCH_VERSION = "{torch.removeprefix("torch")}"' in environment


def _form() -> tuple[dict[str, str], dict[str, str], ET.Element]:
    """Widget name to class, parameter to widget name, and the root of the .ui file."""
    root = ET.parse(MODULE / "Resources" / "UI" / "RadGSReg.ui").getroot()
    classes, bound = {}, {}
    for widget in root.iter("widget"):
        classes[widget.attrib["name"]] = widget.attrib["class"]
        for prop in widget.findall("property"):
            if prop.attrib["name"] == "SlicerParameterName":
                bound[prop.findtext("string") or ""] = widget.attrib["name"]
    return classes, bound, root


def _module_tree() -> ast.Module:
    return ast.parse((MODULE / "RadGSReg.py").read_text())


def _parameter_node() -> ast.ClassDef:
    tree = ast.parse((MODULE / "RadGSRegSlicer" / "scene" / "parameters.py").read_text())
    (node,) = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    return node


def test_the_form_fits_the_widget_and_the_parameters() -> None:
    classes, bound, root = _form()
    fields = {
        n.target.id
        for n in _parameter_node().body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    assert set(bound) <= fields
    used = {
        n.attr
        for path in [MODULE / "RadGSReg.py", *(MODULE / "RadGSRegSlicer" / "panel").glob("*.py")]
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Attribute)
        and (getattr(n.value, "id", "") == "ui" or getattr(n.value, "attr", "") == "ui")
    }
    assert used <= set(classes)
    # Every widget that shows nodes gets the scene, or it stays empty.
    shown = {name for name, cls in classes.items() if cls.startswith("qMRML")} - {"RadGSReg"}
    assert shown == {c.findtext("receiver") for c in root.iter("connection")}
    declared = {c.findtext("class") for c in root.iter("customwidget")}
    assert {cls for cls in classes.values() if cls.startswith(("qMRML", "ctk"))} == declared


def test_the_order_of_the_module_file() -> None:
    names = [n.name for n in _module_tree().body if isinstance(n, ast.ClassDef)]
    parts = ["", "Widget", "Logic"]
    assert names == [f"RadGSReg{part}" for part in parts]


def test_slicer_finds_the_self_test_in_the_module_file() -> None:
    # As ScriptedLoadableModule.runTest and CTest do: by the module's name, in the module itself.
    imported = {
        alias.name
        for n in _module_tree().body
        if isinstance(n, ast.ImportFrom)
        for alias in n.names
    }
    assert "RadGSRegTest" in imported


LOAD = """
import importlib.abc, sys
sys.path[:] = [p for p in sys.path if p not in ("", sys.argv[1])]
sys.path.insert(0, sys.argv[2])
import slicer_startup
slicer_startup.start()
allowed = set(sys.modules)

class Refuse(importlib.abc.MetaPathFinder):
    bare = {"torch", "warp", "pydicom", "PIL", "matplotlib", "jinja2", "rich", "monai", "qt", "ctk"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.bare and name not in allowed:
            raise ImportError("not there in a fresh Slicer: " + name)

sys.meta_path.insert(0, Refuse())
import RadGSReg

class Parent:
    pass

module = RadGSReg.RadGSReg(Parent())
assert "esearch use only" in module.parent.helpText
RadGSReg.RadGSRegLogic().getParameterNode()
library = sorted(n for n in sys.modules if n.startswith("RadGSRegLib."))
print(",".join(library))
"""


def test_the_module_loads_in_a_slicer_with_nothing_installed(tmp_path: Path) -> None:
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(ROOT), str(Path(__file__).parent)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[1] for name in done.stdout.strip().splitlines()[-1].split(",")}
    known = {"choices", "errors", "geometry", "segmentnames", "spine", "system", "vertebrae"}
    assert loaded == known
