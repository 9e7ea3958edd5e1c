"""Fetches what later stages need while earlier ones install: builds or downloads, and the images on the nodes.

Nothing depends on it: a stage that is reached first gets its things itself. What fails here is logged, and fails where
it is needed.
"""

import threading
from collections.abc import Iterable
from typing import Self

from tasks.lib.box import Box
from tasks.lib.component import Component
from tasks.lib.errors import BoxError
from tasks.lib.events import Emitter


class Prefetch:
    """A thread beside a run. `cluster_ready` is set when there are nodes to bring images to."""

    def __init__(self, box: Box, components: Iterable[Component], emitter: Emitter) -> None:
        self._box = box
        self._emitter = emitter
        self._images: dict[str, list[str]] = {}
        for component in components:
            wanted = self._images.setdefault(component.stage, [])
            wanted += [name for name in getattr(component, "images", ()) if name not in wanted]
        self.cluster_ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.cluster_ready.set()

    def _run(self) -> None:
        for stage, wanted in self._images.items():
            try:
                self._box.prepare(stage, _Quiet())
                self._load(wanted)
            except Exception as error:  # noqa: BLE001 (whatever it is, it is met again where the thing is needed)
                self._emitter.note(f"prefetch of {stage}: {error.what if isinstance(error, BoxError) else repr(error)}")

    def _load(self, wanted: list[str]) -> None:
        if not (wanted and self._box.provider.owned):
            return
        self.cluster_ready.wait()
        if not self._stop.is_set() and not self._box.cancel.is_set():
            refs = [self._box.versions.images[name].ref for name in wanted]
            self._box.provider.load_images(refs, _Quiet())


class _Quiet:
    """Says nothing: the components show what they wait for."""

    def __call__(self, text: str, /) -> None:
        """Drop it."""

    def line(self, text: str, /) -> None:
        """Drop it."""
