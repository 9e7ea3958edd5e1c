"""The whole command line on one screen."""

from invoke import Collection

from tasks import bench, dev, model, stages, tenant, up, verify, versions
from tasks.lib import settings

ns = Collection(up.up, up.down, up.plan, up.status, up.render, up.doctor, verify.verify, dev.run_tests, *stages.TASKS)
ns.add_collection(Collection("tenant", tenant.add, tenant.list_, tenant.remove, *tenant.IDENTITY))
ns.add_collection(Collection("model", model.list_, model.predict))
ns.add_collection(Collection("versions", versions.lock, versions.list_))
ns.add_collection(Collection("bench", bench.up, bench.path))
ns.configure({"box": settings.defaults()})
