"""The results of Testing/gpu/measure.py as Markdown."""

from __future__ import annotations

from typing import Any

from peer_report import markdown

GPU = """## On a GPU

`python Testing/gpu/measure.py --out FOLDER` checks every kernel against the CPU and whole
registrations against the truth and the CPU's poses, measures them in less than eight minutes, and
writes `results.json` and a table. Its first lines say what has to be brought along.
`floors.py --gpu FOLDER/results.json` puts its figures here.
"""


def gpu_section(results: dict[str, Any] | None) -> str:
    """What the page says about GPUs: "Not measured." without results of one."""
    if results is None or results["machine"].get("device") != "cuda":
        return GPU + "\nNot measured.\n"
    return GPU + "\n" + summary(results)


def summary(results: dict[str, Any]) -> str:
    """Where it was, then parts, checks and figures."""
    of = results["machine"]
    where = ", ".join(f"{name} {value}" for name, value in of.items() if value is not None)
    rows, checks, figures, remarks = [], [], [], []
    for name, part in results["parts"].items():
        error = part.get("error")
        rows.append(
            [
                name,
                part["status"],
                part.get("ran_on"),
                part.get("seconds"),
                part.get("peak_mib"),
                error.strip().splitlines()[-1][:160].replace("|", "/") if error else None,
            ]
        )
        for check in part.get("checks", []):
            agrees = "yes" if check["ok"] else "no"
            checks.append([name, check["what"], check["error"], check["limit"], agrees])
        for figure in part.get("figures", []):
            figures.append([name, figure["what"], figure["value"], figure["unit"]])
        remarks += [f"- {name}: {remark}" for remark in part.get("remarks", [])]
    header = ["part", "status", "ran on", "s", "peak MiB", "why"]
    return "\n".join(
        [
            where + ".",
            "",
            markdown(header, rows),
            "",
            markdown(["part", "compared", "difference", "limit", "agrees"], checks),
            "",
            markdown(["part", "figure", "value", "unit"], figures),
            "",
            *remarks,
        ]
    )
