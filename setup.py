"""Builds what setup.cfg cannot say: the compiled kernels of a wheel. Without a C compiler the wheel
is for every machine, and its kernels are compiled at first use where there is one."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))
from hnervcodec.decoding import picture_library
from hnervcodec.fitting import training_library
from hnervcodec.synthesis import native_library
from hnervcodec.system import kernels


class BuildKernels(build_py):
    """The package's files, and what its C sources compile to."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a source tree: it compiles at first use what it has then
            return
        try:
            libraries = native_library, training_library, picture_library
            known = [kernel for library in libraries for kernel in library.KERNELS]
            kernels.build(known, Path(self.build_lib, "hnervcodec"))
            self.distribution.has_ext_modules = lambda: True
        except kernels.NoCompilerError as error:
            self.warn(str(error))


class PlatformWheel(bdist_wheel):
    """A wheel for one kind of processor, but for every Python 3, as ctypes loads the kernels."""

    def run(self) -> None:
        self.run_command("build_py")  # says whether there are kernels
        self.root_is_pure = not self.distribution.has_ext_modules()
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, system = super().get_tag()
        return ("py3", "none", system) if not self.root_is_pure else (python, abi, system)


setup(cmdclass={"build_py": BuildKernels, "bdist_wheel": PlatformWheel})
