"""What the machine is set up with has no say in a unit test: its proxies, its certificates, its registries."""

import os

import pytest

_SET_UP = (
    "AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "DOCKER_HOST", "GOPROXY", "KUBECONFIG", "PIP_INDEX_URL", "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR", "SSL_CERT_FILE", "XDG_CACHE_HOME",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name in _SET_UP or name.lower().endswith("_proxy") or name.startswith("INVOKE_"):
            monkeypatch.delenv(name)
