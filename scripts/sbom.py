"""Join two bills of materials by cyclonedx-py: locked packages, with licences and dependencies as installed.

Called by scripts/sbom. Hashes are omitted: they differ by platform, and locks/ contains them.
"""

import json
import sys
from pathlib import Path
from typing import Any

# Native libraries inside wheels, which no tool detects; the versions are reported by the libraries (see the test)
BUNDLED = {
    "simpleitk": {
        "ITK": "5.4.8",
        "GDCM": "3.2.5",
        "OpenJPEG": "2.3.0",
        "zlib-ng": "2.1.6",
        "libpng": "1.6.43",
        "HDF5": "1.12.1",
        "expat": "2.4.1",
    },
    "itk-io": {"ITK": "5.4.7", "GDCM": "3.2.5"},
}
# Files of other projects inside the repository; ct2pet_app/viewer/static/vendor/NOTICE.txt names their parts
VENDORED = [
    {
        "type": "library",
        "bom-ref": "niivue",
        "name": "@niivue/niivue",
        "version": "0.69.0",
        "description": "minimal webgl2 nifti image viewer",
        "licenses": [{"license": {"id": "BSD-2-Clause"}}],
        "purl": "pkg:npm/%40niivue/niivue@0.69.0",
    }
]


def join(locked: dict[str, Any], installed: dict[str, Any]) -> dict[str, Any]:
    """Return the SBOM of the locked packages; `installed` provides licences, descriptions and dependencies."""
    seen = {
        component["name"].lower().replace("_", "-").replace(".", "-"): component
        for component in installed["components"]
    }
    refs = {component["bom-ref"]: name for name, component in seen.items()}
    components, names = [], set()
    for entry in locked["components"]:
        name = entry["name"]
        names.add(name)
        ours = {"type": "library", "bom-ref": name, "name": name, "version": entry["version"], "purl": entry["purl"]}
        ours |= {key: seen[name][key] for key in ("description", "licenses") if key in seen.get(name, {})}
        if name in BUNDLED:
            ours["components"] = [
                {"type": "library", "bom-ref": f"{name}/{library}", "name": library, "version": version}
                for library, version in BUNDLED[name].items()
            ]
        components.append(ours)
    components += VENDORED
    dependencies = [
        {
            "ref": refs[entry["ref"]],
            "dependsOn": sorted({refs[ref] for ref in entry.get("dependsOn", []) if refs[ref] in names}),
        }
        for entry in installed["dependencies"]
        if refs.get(entry["ref"]) in names
    ]
    return {
        "$schema": locked["$schema"],
        "bomFormat": locked["bomFormat"],
        "specVersion": locked["specVersion"],
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "ct2pet",
                "name": "ct2pet",
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
            "tools": locked["metadata"]["tools"],
        },
        "components": sorted(components, key=lambda component: component["name"]),
        "dependencies": sorted(dependencies, key=lambda dependency: dependency["ref"]),
    }


def main() -> None:
    """Write the joined SBOM."""
    locked, installed, out = (Path(argument) for argument in sys.argv[1:])
    bill = join(json.loads(locked.read_text(encoding="utf-8")), json.loads(installed.read_text(encoding="utf-8")))
    out.write_text(json.dumps(bill, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{out}: {len(bill['components'])} packages")


if __name__ == "__main__":
    main()
