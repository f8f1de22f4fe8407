"""Fails unless pyright knows the type of every public symbol of qkt.

python tests/support/public_types.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """0 when the type completeness score is 100 %; prints the symbols that are not known otherwise."""
    command = [sys.executable, "-m", "pyright", "--verifytypes", "qkt", "--ignoreexternal", "--outputjson"]
    # pyright does not follow the import hook of an editable install
    here = str(Path(sys.executable).parent)  # pyright asks the first python on the path where packages are
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((here, os.environ.get("PATH", ""))),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    result = json.loads(ran.stdout)
    completeness = result["typeCompleteness"]
    unknown = [
        f"{symbol['name']}: {message['message'].splitlines()[0]}"
        for symbol in completeness["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
        for message in symbol["diagnostics"]
    ]
    for line in unknown:
        print(line)
    print(f"public types known: {completeness['completenessScore']:.2%}")
    return 1 if unknown or completeness["completenessScore"] < 1 else 0


if __name__ == "__main__":
    sys.exit(main())
