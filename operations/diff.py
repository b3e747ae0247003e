"""What a deploy would change, against another revision and without any account (`make diff BASE=main`).

Prints Markdown: CDK's own diff of each stack, of every environment, whose template differs.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from operations.commands import ROOT, environment
from stacks.settings import ENVIRONMENTS


def main(base: str) -> None:
    """Print the differences from the revision `base` to the tree as it is.

    Exits with 1 when git is missing, when there is no such revision, or when one of the two cannot be synthesised.
    """
    if not shutil.which("git"):
        sys.exit("the tree to compare with comes from git, which is not on the PATH; right would be to install it")
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary) / "tree"
        worktree = subprocess.run(
            ["git", "worktree", "add", "--detach", "--quiet", tree, base], cwd=ROOT, capture_output=True, text=True
        )
        if worktree.returncode:
            sys.exit(f"BASE={base}: {worktree.stderr.strip()}; right would be a branch, a tag or a commit")
        try:
            for env in ENVIRONMENTS:
                before, after = (Path(temporary) / f"{when}-{env}" for when in ("before", "after"))
                _synthesise(ROOT, env, after)
                if _has(tree, env):
                    _synthesise(tree, env, before)
                    _print_differences(env, before, after)
                else:
                    stacks = sorted(file.name.removesuffix(".template.json") for file in after.glob("*.template.json"))
                    print(f"## {env}\n\n{env} is new: {base} has no such environment. It has {', '.join(stacks)}.\n")
        finally:
            shutil.rmtree(tree)
            subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)


def _has(tree: Path, env: str) -> bool:
    """Whether the revision has the environment."""
    asked = "import sys; from stacks.settings import ENVIRONMENTS; sys.exit(sys.argv[1] not in ENVIRONMENTS)"
    return not subprocess.run([sys.executable, "-W", "ignore", "-c", asked, env], cwd=tree).returncode


def _synthesise(tree: Path, env: str, out: Path) -> Path:
    command = ["cdk", "synth", "--quiet", f"--output={out}", f"--context=env={env}"]
    finished = subprocess.run(command, cwd=tree, env=environment(), capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"{tree.name} cannot be synthesised for {env}:\n{finished.stderr[-2000:]}")
    return out


def _print_differences(env: str, before: Path, after: Path) -> None:
    names = sorted({file.name for folder in (before, after) for file in folder.glob("*.template.json")})
    print(f"## {env}\n")
    unchanged = []
    for name in names:
        old, new = before / name, after / name
        stack = name.removesuffix(".template.json")
        if not new.exists():
            print(f"**{stack} goes**\n")
            continue
        if old.exists() and old.read_text() == new.read_text():
            unchanged.append(stack)
            continue
        if not old.exists():
            old.write_text("{}")
        command = ["cdk", "diff", f"--app={after}", f"--template={old}", "--exclusively", "--no-color", stack]
        shown = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
        print(f"<details><summary>{stack}</summary>\n\n```\n{(shown.stdout + shown.stderr).strip()}\n```\n</details>\n")
    if unchanged:
        print(f"Unchanged: {', '.join(unchanged)}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("which revision to compare with? make diff BASE=main")
    main(sys.argv[1])
