"""What the installation makes works wherever the clone lies."""

import subprocess
import sys
from pathlib import Path

from tools.install import start_scripts_by_sh


def test_a_script_of_a_package_starts_in_a_folder_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "mit Leerzeichen ü"
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    script = folder / "aws"
    script.write_text(f"#!{folder}/python\nimport sys\nprint(sys.argv[1:])\n")
    script.chmod(0o755)
    start_scripts_by_sh(folder)
    assert subprocess.run([script, "a b"], capture_output=True, text=True, check=True).stdout == "['a b']\n"
