"""Ground on which checks may do as they like: two scratch tenants with a model each, for all checks of one run.

They are made by the first check that needs them and removed at the end; whatever becomes of a run, the next one removes
what it left (tasks/lib/scratch.py).
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tasks.lib import gateway, keys, scratchtenants, tokens
from tasks.lib.box import Box
from tasks.lib.checks import Scene
from tasks.lib.errors import NotReady
from tasks.lib.keys import Jwks, Ring
from tasks.lib.kube import status
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.modelling import Model
from tasks.lib.scratch import Scratch
from tasks.lib.tenancy import Tenant
from tasks.lib.tokenkinds import Kind, Mint

if TYPE_CHECKING:
    import requests

OWNER = "ground"

READY_S = 240.0
"""Seconds for both models to answer at the edge; their images may have to be pulled."""

_ASK_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Who the scratch tenants' policies let in: by these keys, but for these ids of tokens."""

    jwks: Jwks
    revoked: tuple[str, ...] = ()


class Ground:
    """The scratch tenants, while the `with` block lasts; `open` makes them."""

    def __init__(self) -> None:
        self.ring: Ring = keys.new_ring()
        self._stale = keys.new_key()
        self.mint = Mint(
            signing=self.ring.current, coming=self.ring.next, rotated_out=self._stale, revoked_jti=tokens.new_jti()
        )  # fmt: skip
        self.tenants: tuple[Tenant, ...] = tuple(map(scratchtenants.tenant, scratchtenants.NAMES))
        self.models: tuple[Model, ...] = tuple(map(scratchtenants.model, scratchtenants.NAMES))
        self.admission = self.before
        self._scratch: Scratch | None = None
        self._lock = threading.Lock()
        self._loud: list[Callable[[], None]] = []

    def when_hushed(self, leave: Callable[[], None]) -> None:
        """Register how to make somebody go quiet who keeps asking."""
        self._loud.append(leave)

    def hush(self) -> None:
        """Let nobody ask any more, so that what comes next is alone."""
        for leave in self._loud:
            leave()

    @property
    def before(self) -> Admission:
        """As it is at first: the key that is rotated out later is still known, and nothing is revoked."""
        known = keys.jwks(self.ring)
        return Admission(jwks={"keys": [*known["keys"], keys.jwk(self._stale)]})

    @property
    def after(self) -> Admission:
        """As it is while the matrix is asked: one key was rotated out, one token was taken back."""
        return Admission(jwks=keys.jwks(self.ring), revoked=(self.mint.revoked_jti,))

    @property
    def rotated(self) -> Admission:
        """As it is after a rotation: the next key signs, and the one that signed before is still known."""
        return Admission(jwks=keys.jwks(keys.rotate(self.ring)), revoked=(self.mint.revoked_jti,))

    @property
    def scratch(self) -> Scratch:
        """What is made here, until the end. Raises NotReady before `open`."""
        if self._scratch is None:
            raise NotReady("the scratch tenants are not there")
        return self._scratch

    def token(self, tenant: str, kind: Kind = Kind.RIGHT) -> str:
        """Mint a token of a scratch tenant."""
        return self.mint.token(kind, tenant, time.time())

    def open(self, scene: Scene) -> None:
        """Make the tenants and their models, and wait until both answer. Raises NotReady when they do not."""
        box = scene.box
        with self._lock:
            if self._scratch is None:
                self._scratch = Scratch(box.kube, OWNER, box.cancel)
                self.admit(box, self.before)
                for model in self.models:
                    self.scratch.put(*self.model_objects(model, box))
        if why := scene.observe(lambda: self._obstacle(box), READY_S):
            raise NotReady(f"the scratch tenants' models do not answer: {why}")

    def objects(self, tenant: Tenant, box: Box) -> list[Obj]:
        """What a scratch tenant is now, its model aside."""
        admission = self.admission
        return scratchtenants.objects(tenant, box.settings.domain, admission.jwks, admission.revoked)

    def model_objects(self, model: Model, box: Box) -> list[Obj]:
        """What a scratch tenant's model is."""
        return scratchtenants.model_objects(model, box)

    def admit(self, box: Box, admission: Admission) -> None:
        """Let in by other keys, or take tokens back: as `tenant.rotate-keys` and `tenant.revoke` do for all tenants."""
        before = {tenant.name: self.objects(tenant, box) for tenant in self.tenants}
        self.admission = admission
        for tenant in self.tenants:
            wanted = self.objects(tenant, box)
            self.scratch.put(*wanted)
            for ref in {*map(Ref.of, before[tenant.name])} - {*map(Ref.of, wanted)}:
                self.scratch.take_away(ref)

    def _obstacle(self, box: Box) -> str:
        for model in self.models:
            found = box.kube.get(Ref("serving.kserve.io/v1beta1", "InferenceService", model.namespace, model.name))
            state = status.compute(found) if found else None
            if state is None or state.state is not status.State.CURRENT:
                return f"{model.namespace}/{model.name}: {state or 'is not there'}"
            code = ask(box, model, self.token(model.tenant))
            if code != 200:  # noqa: PLR2004
                return f"{model.namespace}/{model.name}: HTTP {code or 'nothing'} at the edge"
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scratch is not None:
            self._scratch.__exit__(kind, error, trace)


def ask(box: Box, model: Model, token: str, headers: Mapping[str, str] | None = None) -> int:
    """Ask a model for anything at the edge; return the status, 0 when nothing answers."""
    found = post(box, model, token, headers)
    return 0 if found is None else found.status_code


def post(
    box: Box, model: Model, token: str, headers: Mapping[str, str] | None = None, *,
    query: str = "", within_s: float = _ASK_S,
) -> "requests.Response | None":  # fmt: skip
    """Ask a model for anything at the edge, without a token where it is empty; None when nothing answers in time.

    `query` tells an echo what to do (manifests/verify/echo.py).
    """
    import requests

    named = {"Host": model.host(box.settings.domain), **(headers or {})}
    if token:
        named["Authorization"] = f"Bearer {token}"
    where = f"{gateway.url(box)}{model.predict_path}{query}"
    try:
        return requests.post(where, json={"instances": []}, headers=named, timeout=(5, within_s))
    except requests.RequestException:
        return None
