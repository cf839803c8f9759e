"""Builds libdure.so with cargo, and the back end for torch where torch is installed, and ships them in the package."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)

try:
    from torch.utils.cpp_extension import BuildExtension, CppExtension
except ImportError:
    BuildExtension, CppExtension = build_ext, None


def library(folder: Path) -> Path:
    """Where libdure.so belongs in a folder: under its SONAME, by which the back end for torch is linked to it."""
    major, minor, _ = VERSION.split(".")
    return folder / f"libdure.so.{f'0.{minor}' if major == '0' else major}"


class BuildPackage(build_py):
    """Adds the library to the package."""

    def run(self) -> None:
        super().run()
        subprocess.run(["cargo", "build", "--release", "--locked", "--package", "dure-capi"], cwd=ROOT, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        package = Path(self.build_lib, "dure")
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / target / "release" / "libdure.so", library(package))


class BuildBackEnd(BuildExtension):
    """Links the back end to the library of the package, which it finds beside itself at run time."""

    def build_extensions(self) -> None:
        package = Path(self.build_lib, "dure")
        for extension in self.extensions:
            extension.extra_link_args += [str(library(package)), "-Wl,-rpath,$ORIGIN/.."]
        super().build_extensions()


def back_end() -> list:
    """The back end, if torch is there to build it with."""
    if CppExtension is None:
        return []
    sources = sorted(str(path.relative_to(HERE)) for path in (HERE / "csrc").glob("*.cpp"))
    return [
        CppExtension(
            "dure.torch._backend",
            sources,
            include_dirs=[str(ROOT / "bindings/capi/include")],
            extra_compile_args=["-std=c++20", "-O2", "-Wall", "-fvisibility=hidden"],
        )
    ]


setup(
    version=VERSION,
    packages=["dure", "dure.torch"],
    package_data={"dure": ["py.typed"]},
    ext_modules=back_end(),
    cmdclass={"build_py": BuildPackage, "build_ext": BuildBackEnd},
)
