"""Builds the wheel from the clone: cargo makes libbaton.a, the C compiler the module on top of it.

BATON_LIB names a libbaton.a that is there already.
"""

import os
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class BuildNative(build_ext):
    """Makes the library first."""

    def build_extension(self, ext: Extension) -> None:
        library = os.environ.get("BATON_LIB")
        if library is None:
            if not (ROOT / "sdk/lib/Cargo.toml").is_file():
                raise SystemExit("the wheel is built in a clone of Baton: pip install ./sdk/python there, or set BATON_LIB to libbaton.a")
            subprocess.run(["cargo", "build", "--release", "--package", "baton-lib"], cwd=ROOT, check=True)
            target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
            library = str((ROOT / target).resolve() / "release" / "libbaton.a")
        ext.extra_objects = [library]
        super().build_extension(ext)


setup(
    ext_modules=[
        Extension(
            "baton._native",
            ["src/native.c"],
            include_dirs=[str(ROOT / "sdk/c/include")],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            extra_compile_args=["-O2", "-Wall", "-Wextra"],
            extra_link_args=["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-Wl,-z,now", "-Wl,-s"],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildNative},
    # Nothing in it is newer than what CPython 3.10 has.
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
