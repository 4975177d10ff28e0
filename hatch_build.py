"""Builds the plugin hosts when the package is installed or a wheel is made, as far as there are compilers.

A wheel carries what could be built, and the headers for authors; it is tied to this system only if there is a host of
this system in it.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeHosts(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook: called before the files of a wheel, or of an editable install, are gathered."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Without a compiler a line is said; one that refuses ends the making of a wheel, not an editable install."""
        spec = importlib.util.spec_from_file_location("native_build", Path(self.root) / "native" / "build.py")
        assert spec is not None and spec.loader is not None
        native = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = native
        spec.loader.exec_module(native)
        for header in native.copy_headers():
            build_data["artifacts"].append(f"/{header.relative_to(self.root).as_posix()}")
        for target in native.TARGETS:
            try:
                self.app.display_info(native.build(target))
            except native.BuildFailed as failed:
                if version != "editable":
                    raise
                self.app.display_warning(str(failed))
            output = native.BUILT / target.output
            if output.exists():
                build_data["artifacts"].append(f"/{output.relative_to(self.root).as_posix()}")
                if target.name == "linux":
                    build_data["pure_python"] = False
                    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
                    build_data["tag"] = f"py3-none-{platform}"
