"""Rows of `bench_beam`: kept as they are made, and as tables in Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peer_report import markdown

Row = Mapping[str, Any]
_NAMES = {
    "ours": "ours",
    "voxels": "plain voxels",
    "voxels-log": "plain voxels, -log",
    "sart": "SART",
    "fdk": "FDK",
}
_VOLUME = ("attenuation", "bone")
_SECONDS = ("seconds", "processor_s")
_WHICH = ("settings", "case", "views", "seed", "method")


def key(row: Row) -> str:
    """What tells a row from all others."""
    return json.dumps([row[name] for name in _WHICH], sort_keys=True)


def read(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """All rows of files of JSON lines by their `key`; a line that was cut off is left out."""
    rows = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                print(f"{path.name}: a line is not whole and is left out", flush=True)
                continue
            rows[key(row)] = row
    return rows


def append(path: Path, row: Row) -> None:
    """Append a row to a file, on a line of its own even where the last was cut off."""
    cut_off = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut_off else "") + json.dumps(row) + "\n")


def tables(rows: Sequence[Row]) -> str:
    """Tables of every setting and case: a row for each number of X-rays, medians over seeds."""
    out = []
    for settings in _unique(rows, lambda row: row["settings"]):
        some = [row for row in rows if row["settings"] == settings]
        said = ", ".join(f"{name} {value}" for name, value in settings.items())
        out.append(f"Settings: {said}.\n")
        for case in _unique(some, lambda row: row["case"]):
            out += _of_case([row for row in some if row["case"] == case], case)
        out += _gain(some)
    return "\n".join(out)


def _of_case(rows: Sequence[Row], case: str) -> list[str]:
    """The tables of one case."""
    here = [row["method"] for row in rows]
    methods = [name for name in _NAMES if name in here]
    figures = [
        ("volume: attenuation / bone", _VOLUME, None),
        ("held out, all tissue", ("tissue_psnr_db", "tissue_ssim"), "tissue_flat"),
        (
            "held out, all tissue, best gain and offset",
            ("tissue_fitted_psnr_db", "tissue_fitted_ssim"),
            "tissue_flat",
        ),
        (
            "held out, bone, best gain and offset",
            ("bone_fitted_psnr_db", "bone_fitted_ssim"),
            "bone_flat",
        ),
        ("seconds / seconds of processors", _SECONDS, None),
    ]
    out = []
    for title, names, flat in figures:
        if all(row.get(names[0]) is None for row in rows):
            continue
        header = ["X-rays", "seeds", *(_NAMES[name] for name in methods)]
        if flat:
            title, header = f"{title}: PSNR dB / SSIM", [*header, "one grey"]
        if names == _SECONDS:
            header.append("ours `ok`")
        excess = names == _VOLUME and any("excess" in row for row in rows)
        if excess:
            header.append("ours: excess")
        lines = []
        for views in sorted({row["views"] for row in rows}):
            some = [row for row in rows if row["views"] == views]
            line: list[Any] = [views, len({row["seed"] for row in some})]
            for method in methods:
                line.append(_cell([row for row in some if row["method"] == method], names))
            if flat:
                whole = [row for row in some if "error" not in row]
                line.append(_cell(whole, (f"{flat}_psnr_db", f"{flat}_ssim")))
            if excess:
                line.append(_cell([row for row in some if row["method"] == "ours"], ("excess",)))
            if names == _SECONDS:
                ours = [row for row in some if row["method"] == "ours"]
                trusted = sum(row.get("status") == "ok" for row in ours)
                line.append(f"{trusted} of {len(ours)}" if ours else "")
            lines.append(line)
        out.append(f"**{case}**, {title}\n\n{markdown(header, lines)}\n")
    return out


def _cell(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Medians over seeds; how many failed where some did."""
    failed = sum("error" in row for row in rows)
    parts = []
    for name in names:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            digits = 0 if name in _SECONDS else 1 if name.endswith("_db") else 3
            parts.append(f"{np.median(values):.{digits}f}")
    text = " / ".join(parts)
    return f"{text} ({failed} failed)".strip() if failed else text


def _gain(rows: Sequence[Row]) -> list[str]:
    """What standardisation gains of the bones, of the same seeds with and without it."""
    out = []
    for case in _unique(rows, lambda row: row["case"]):
        plain = case.removesuffix("+standardised")
        if plain == case:
            continue
        lines = []
        for views in sorted({row["views"] for row in rows if row["case"] == case}):
            here = [row for row in rows if row["views"] == views and row["method"] == "ours"]
            before, after = (
                {
                    row["seed"]: (row["bone_fitted_psnr_db"], row["bone_fitted_ssim"], row["bone"])
                    for row in here
                    if row["case"] == which and "error" not in row
                }
                for which in (plain, case)
            )
            both = sorted(before.keys() & after.keys())
            if both:
                gained = [np.subtract(after[seed], before[seed]) for seed in both]
                decibels, likeness, volume = np.median(gained, axis=0)
                cells = [f"{decibels:+.1f}", f"{likeness:+.3f}", f"{volume:+.3f}"]
                lines.append([views, len(both), *cells])
        if lines:
            header = ["X-rays", "seeds", "PSNR, dB", "SSIM", "bone of the volume"]
            title = f"**{plain}**, what standardisation gains of bones, ours"
            out.append(f"{title}\n\n{markdown(header, lines)}\n")
    return out


def _unique(rows: Sequence[Row], of: Callable[[Row], Any]) -> list[Any]:
    """Values in the order in which they come first."""
    out: list[Any] = []
    for row in rows:
        if of(row) not in out:
            out.append(of(row))
    return out
