"""lambda_src/ and its two dependencies as the package that the functions run."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

SOURCE: Final = Path(__file__).parent.parent / "lambda_src"
RUNTIME: Final = lambda_.Runtime.PYTHON_3_13


def function_code() -> lambda_.Code:
    """lambda_src/ and its dependencies as one package, made without Docker.

    The package's hash is that of lambda_src/ itself: requirements.txt there names every
    dependency's version and hash, so that the same source is always the same package,
    and a package that is already in cdk.out/ is not made again.
    """
    return lambda_.Code.from_asset(
        str(SOURCE),
        exclude=["__pycache__", "*.pyc"],
        bundling=cdk.BundlingOptions(
            image=RUNTIME.bundling_image,  # Named because CDK requires one; never pulled.
            local=LocalBundling(),
        ),
    )


@jsii.implements(cdk.ILocalBundling)
class LocalBundling:
    """Makes the package with pip: pure Python wheels, each checked against its hash."""

    def try_bundle(self, output_dir: str, *_: Any, **__: Any) -> bool:
        """Fill `output_dir` (a path) and return True; the container is never the fallback.

        Raises:
            subprocess.CalledProcessError: pip could not install; its own words go to standard error.
        """
        pip = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"),
                *("--target", output_dir, "--requirement", str(SOURCE / "requirements.txt")),
            ],
            capture_output=True,
            text=True,
        )
        if pip.returncode:
            sys.stderr.write(pip.stderr)
            pip.check_returncode()
        shutil.copytree(SOURCE, output_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        return True
