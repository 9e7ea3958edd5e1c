"""What `up` ends with: a prediction from a real model, and where to ask for more."""

import sys

from tasks.lib import predict
from tasks.lib.converge import Run
from tasks.lib.errors import NotReady
from tasks.lib.session import Session


def show(session: Session, run: Run) -> None:
    """Print one prediction, when something changed (an unchanged platform's model may sleep, and is left asleep).

    Raises NotReady when the model does not answer.
    """
    if not session.models or run.changes == 0:
        return
    model = session.models[0]
    reply = predict.ask(session.box, model, model.instances)
    if reply.obstacle:
        raise NotReady(reply.obstacle, hint=f"invoke model.predict --name {model.name}")
    sys.stdout.write(
        f"{model.tenant}/{model.name} says {reply.predictions} for {list(model.instances)} "
        f"in {reply.elapsed_s:.2f} s\n  POST {reply.url} with Host: {model.host(session.box.settings.domain)}\n"
    )
