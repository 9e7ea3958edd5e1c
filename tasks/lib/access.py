"""Tokens by command: mint, rotate the keys, revoke."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tasks.components import identity as components
from tasks.lib import converge, identity, keys, removal, tenancy, tokens
from tasks.lib.errors import BadInput
from tasks.lib.session import Session

_LONGEST_TOKEN = 16 * 1024


def token(session: Session, name: str, *, ttl: str, model: str) -> None:
    """Print a token for a tenant, alone on standard output. Raises BadInput before any key is read."""
    ttl_s = tokens.parse_ttl(ttl)
    tenancy.check_name(name)
    if session.added is None:
        session.box.kube.version()  # raises ClusterGone with what is wrong: who is a tenant cannot be known
    session.tenant(name)
    if model:
        _check_model(session, name, model)
    now, jti = time.time(), tokens.new_jti()
    said = tokens.claims(name, ttl_s=ttl_s, now=now, jti=jti, model=model)
    signed = keys.sign(said, identity.ring(session.box).current)
    sys.stderr.write(f"expires {tokens.stamp(said['exp'])}  jti {jti}\n")
    sys.stdout.write(f"{signed}\n")


def _check_model(session: Session, tenant: str, model: str) -> None:
    known = [each.name for each in session.models if each.tenant == tenant]
    known += [each for each in removal.running_models(session.box.kube, tenant) if each not in known]
    if model not in known:
        raise BadInput(f"tenant {tenant} has no model {model!r}", facts={"known": ", ".join(known) or "none"})


def rotate_keys(session: Session, *, drop_previous: bool, withdraw: bool, wait: bool = True) -> None:
    """Let the next key sign. Whoever verifies is told before and after, so that no valid caller is refused."""
    command = "invoke tenant.rotate-keys"
    box = session.box
    box.provider.ensure_engine(converge.tell)
    identity.ring(box)
    _spread(session, command, wait=wait)  # the key that is to sign is known everywhere
    _at_work(
        session, command, lambda: identity.rotate(box, now=time.time(), drop_previous=drop_previous, withdraw=withdraw),
        wait=wait,
    )  # fmt: skip
    _spread(session, command, wait=wait)
    made = identity.ring(box)
    ids = {name: keys.kid(pem) for name, pem in made.record().items()}
    sys.stdout.write("".join(f"{name:<9} {found}\n" for name, found in ids.items()))


def revoke(session: Session, *, jti: str, token_file: str, wait: bool = True) -> None:
    """Take a token back: by its id, or by itself. Raises BadInput before anything is touched."""
    if bool(jti) == bool(token_file):
        raise BadInput("one of --jti and --token-file is wanted", hint="invoke tenant.revoke --jti ID")
    command = "invoke tenant.revoke"
    given = "" if jti else _read(token_file)
    if jti:
        tokens.check_jti(jti)
    box, now = session.box, time.time()
    box.provider.ensure_engine(converge.tell)
    exp = tokens.last_exp(now)
    if given:
        claims = tokens.verify(given, keys.jwks(identity.ring(box)), now)
        jti, exp = tokens.check_jti(claims["jti"]), claims["exp"]
    _at_work(session, command, lambda: identity.revoke(box, jti, exp, now), wait=wait)
    _spread(session, command, wait=wait)
    sys.stdout.write(f"token {jti} is revoked; it would have expired {'' if given else 'by '}{tokens.stamp(exp)}\n")


def dependents(session: Session) -> list[str]:
    """Return the components that hold keys or revocations: the server, and all that needs it."""
    graph = session.graph
    return [name for name in graph.dependents([components.IDENTITY.name]) if not graph[name].left_out]


def _spread(session: Session, command: str, *, wait: bool) -> None:
    """Apply what holds keys or revocations. Raises what that failed with."""
    session = converge.awake(replace(session), command, wait=wait)
    run = converge.up(session, dependents(session), wait=wait, command=command)
    if run.error:
        raise run.error


def _at_work(session: Session, command: str, body: Callable[[], object], *, wait: bool) -> None:
    with converge.turn(session, command, wait=wait) as at_work:
        at_work.acquire()
        body()


def _read(path: str) -> str:
    """Return the token in a file, or on standard input. Raises BadInput naming the file, never what is in it."""
    try:
        if path == "-":
            text = sys.stdin.read(_LONGEST_TOKEN + 1)
        else:
            with Path(path).open(encoding="ascii") as file:
                text = file.read(_LONGEST_TOKEN + 1)
    except OSError as error:
        raise BadInput(f"--token-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"--token-file {path}: not a token") from None
    if len(text) > _LONGEST_TOKEN or len(text.split()) != 1:
        raise BadInput(f"--token-file {path}: not one token")
    return text.strip()
