"""The whole command line on one screen."""

from invoke import Collection

from tasks import model, stages, tenant, up
from tasks.lib import settings

ns = Collection(up.up, up.down, up.plan, up.status, up.render, up.doctor, *stages.TASKS)
ns.add_collection(Collection("tenant", tenant.add, tenant.list_, tenant.remove))
ns.add_collection(Collection("model", model.list_, model.predict))
ns.configure({"box": settings.defaults()})
