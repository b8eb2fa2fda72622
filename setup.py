"""What pyproject.toml cannot say: the weights of Resources/Models are installed in the library."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MODELS = Path("Resources", "Models")


class BuildWithModels(build_py):
    """Copies them to RadGSRegLib/Models, where `networks.shipped` finds them; a checkout that is
    installed in place has them already."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "RadGSRegLib", MODELS.name)
            self.mkpath(str(target))
            for file in self._models():
                self.copy_file(file, str(target))

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self._models()]

    def _models(self) -> list[str]:
        return sorted(str(path) for path in MODELS.iterdir())


setup(cmdclass={"build_py": BuildWithModels})
