"""A finding as a script that shows it again, without Hypothesis."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import volfiles
from glupy.testing.fuzz.outcome import Finding
from glupy.testing.fuzz.steps import FLAGS, Step

_SCRIPT = '''\
#!{python}
"""{title}

{wrong}

Usage: {name} [TARGET]; exits 0 if nothing is wrong there, 1 if something is, 2 if it cannot run.
"""

{imports}

try:
    from glupy.testing.fuzz.script import main
    from glupy.testing.fuzz.steps import {names}
except ImportError as error:
    print(f"{{error}}: is there no glupy for {{sys.executable}}?", file=sys.stderr)
    sys.exit(2)

STEPS = [
{steps}
]

if __name__ == "__main__":
    target = sys.argv[1:] or [{target}]
    sys.exit(main(STEPS, target, {options}))
'''


def script(
    finding: Finding,
    name: str,
    target: str,
    *,
    against: str | None = None,
    inserts: Sequence[volfiles.Insert] = (),
    faults: Sequence[str] = (),
    over_rpc: bool = False,
) -> str:
    """The text of a script that does the finding's steps again, on that target or another."""
    options = {
        "inserts": [(type_, dict(options)) for type_, options in inserts],
        "against": against,
        "faults": list(faults),
        "over_rpc": over_rpc,
    }
    steps = finding.steps
    lines = "\n".join(f"    {code(step)}," for step in steps)
    return _SCRIPT.format(
        python=sys.executable,
        imports="import os\nimport sys" if "os." in lines else "import sys",
        title=f"{len(steps)} calls after which something is wrong on {target}.",
        wrong=finding.wrong[0].upper() + finding.wrong[1:] + ".",
        name=name,
        names=", ".join(sorted({type(each).__name__ for step in steps for each in step.parts})),
        steps=lines,
        target=repr(target),
        options=", ".join(f"{name}={value!r}" for name, value in options.items() if value),
    )


def code(step: Step) -> str:
    """The Python that makes this step."""
    words = []
    for field in dataclasses.fields(step):  # type: ignore[arg-type]
        value = getattr(step, field.name)
        if value == field.default:
            continue
        words.append(f"{field.name}={_value(field.name, value)}")
    return f"{type(step).__name__}({', '.join(words)})"


def _value(name: str, value: object) -> str:
    if isinstance(value, Step):
        return code(value)
    if name != "flags" or not isinstance(value, int):
        return repr(value)
    names = [f"os.{each}" for each in FLAGS if value & getattr(os, each) == getattr(os, each)]
    return " | ".join(names) or "os.O_RDONLY"


def write(folder: Path, text: str, suffix: str = ".py") -> Path:
    """Write the script to a folder, which is made if need be; the first free name is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while (path := folder / f"repro{f'-{number}' if number else ''}{suffix}").exists():
        number += 1
    path.write_text(text)
    path.chmod(0o755)
    return path
