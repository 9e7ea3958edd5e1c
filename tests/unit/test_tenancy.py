"""Tenants: what config/tenants.yaml may say, and what a tenant may be called."""

from pathlib import Path

import pytest

from tasks.lib import names, tenancy
from tasks.lib.errors import BadInput

FILE = Path(__file__).parents[2] / "config/tenants.yaml"


def test_the_longest_name_makes_labels_and_one_more_is_refused_with_the_real_limit() -> None:
    longest = tenancy.check_name("t" * 35)
    made = [names.account_job("ensure", longest), names.account_job("remove", longest), names.tenant_component(longest)]

    assert max(map(len, made)) == names.LONGEST_LABEL
    with pytest.raises(
        BadInput, match=r"has 36 characters; 35 is the limit, so that model-store-ensure-NAME-\w{8} fits"
    ):
        tenancy.check_name("t" * 36)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    text = FILE.read_text()
    assert tenancy.load(FILE)[0]
    (tmp_path / "tenants.yaml").write_text(text.replace("schema: 1", "schema: 2"))
    with pytest.raises(BadInput, match=r"tenants\.yaml:\d+: schema: 2 is not known"):
        tenancy.load(tmp_path / "tenants.yaml")
