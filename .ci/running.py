"""A cairn that the checks of this folder run."""

import re
import subprocess
import sys
import threading
from pathlib import Path


class Cairn:
    """A running cairn, and where it listens: by the names of its listeners, and `admin`."""

    def __init__(self, binary, folder, text):
        path = Path(folder) / "cairn.toml"
        path.write_text(text)
        self.process = subprocess.Popen([binary, "run", "-c", path], stderr=subprocess.PIPE, text=True)
        self.addresses, said = {}, ""
        for line in self.process.stderr:
            said += line
            if found := re.search(r"cairn: (?:listener (\S+)|(admin)) on (127\.0\.0\.1:\d+)", line):
                self.addresses[found[1] or found[2]] = found[3]
            if "cairn: ready" in line:
                break
        else:
            sys.exit(f"{Path(sys.argv[0]).name}: cairn did not start:\n{said}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def end(self):
        self.process.terminate()
        self.process.wait()
