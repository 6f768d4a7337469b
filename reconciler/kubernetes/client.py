"""The client of a fleet's cluster, and its errors in our tree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import httpx2
import yaml
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.core.exceptions import ConfigError

from reconciler.errors import ClusterError, ClusterRefused, UsageError
from reconciler.rollout.managed_fields import FIELD_MANAGER

PAGE = 500
"""Objects that a list asks for at once."""

TIMEOUT = 30.0
"""Seconds that one call may take; watches last longer."""

_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses that a later call may not get. (409 is also a conflict of field managers: see `errors`.)"""

_CREDENTIALS = "check the user in the kubeconfig file: `kubectl get nodes` uses the same"


def connect(fleet: str, cluster: Literal["kubeconfig", "in-cluster"], kubeconfig: str, context: str) -> AsyncClient:
    """A client of the cluster that the settings of a fleet name, or, without a fleet, of the one that the arguments
    do. Nothing is asked yet. Raises UsageError."""
    where = f"fleets.{fleet}.{'kubernetes' if cluster == 'in-cluster' else 'kubeconfig'}" if fleet else "--kubeconfig"
    try:
        if cluster == "in-cluster":
            config = KubeConfig.from_service_account()
        else:
            config = KubeConfig.from_file(kubeconfig or _default_file(where) or "~/.kube/config")
        chosen = config.get(context or None)
        return AsyncClient(chosen, field_manager=FIELD_MANAGER, timeout=httpx2.Timeout(TIMEOUT))
    except (ConfigError, OSError, KeyError) as error:
        raise _unusable(str(error) or type(error).__name__, where) from None
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        raise _unusable("the file is no YAML" + (f" (line {mark.line + 1})" if mark else ""), where) from None
    except (TypeError, AttributeError, AssertionError, ValueError, httpx2.InvalidURL):  # their text may quote the file
        what = "the file is no kubeconfig, or a value in it cannot be read (base64, a certificate, a server's address)"
        raise _unusable(what, where) from None


def _default_file(where: str) -> str:
    """The file that the environment names. kubectl merges several; we do not. Raises UsageError."""
    named = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    if len(named) > 1:
        raise UsageError("the variable KUBECONFIG names several files", where=where, remedy=f"set {where} to one")
    return named[0] if named else ""


def _unusable(what: str, where: str) -> UsageError:
    remedy = "check the kubeconfig file and the context: `kubectl --context … get nodes` uses the same"
    return UsageError(f"the cluster cannot be used: {what}", where=where, remedy=remedy)


@contextmanager
def errors(asked: str) -> Iterator[None]:
    """Whatever keeps the API from answering becomes a ClusterError; `asked` says of what, for people.

    404 and 409 of single objects belong to the caller: catch lightkube's ApiError inside.
    """
    try:
        yield
    except ApiError as error:
        raise refusal(error, asked) from None
    except httpx2.HTTPStatusError as error:  # an answer that is no Status object
        raise _answered(error.response.status_code, "", asked) from None
    except httpx2.HTTPError as error:
        said = str(error) or type(error).__name__
        raise ClusterError(
            f"the API server cannot be reached: {said}", where=asked, remedy="it is tried again at the next pass"
        ) from None
    except ConfigError as error:  # a token file or an exec plugin that gives nothing
        said = str(error).partition(": ")[0]  # behind it stands what a plugin wrote
        raise ClusterError(said, where=asked, remedy=_CREDENTIALS) from None
    except OSError as error:
        raise ClusterError(f"no credentials can be had: {error}", where=asked, remedy=_CREDENTIALS) from None
    except (ValueError, KeyError, TypeError) as error:
        what = f"unreadable answer of the API server, or of the program that gives credentials ({type(error).__name__})"
        raise ClusterError(what, where=asked, remedy=_CREDENTIALS) from None


async def delete_with(
    client: AsyncClient, kind: type[Any], name: str | None, namespace: str | None, options: Mapping[str, Any]
) -> None:
    """DELETE with DeleteOptions, which lightkube's own delete() does not take. Raises what that raises."""
    http: Any = client._client  # noqa: SLF001
    request = http.prepare_request("delete", kind, None, name, namespace)
    request.data = options
    http.handle_response("delete", await http.send(http.build_adapter_request(request)), request)


def refusal(error: ApiError, asked: str) -> ClusterError:
    """The same for an answer in hand."""
    found = _answered(int(error.status.code or 0), str(error.status.message or ""), asked)
    causes = (error.status.details.causes or ()) if error.status.details else ()
    found.details = tuple((str(c.reason or ""), str(c.message or ""), str(c.field or "")) for c in causes)
    return found


def _answered(status: int, message: str, asked: str) -> ClusterError:
    kind = ClusterError if status in _LATER else ClusterRefused
    error = kind(message or f"the API server answered {status}", where=asked, remedy=_remedy(status))
    error.status = status
    return error


def _remedy(status: int) -> str:
    if status == 401:
        return "log in anew: the credentials of the kubeconfig file, or the service account's token, do not count"
    if status == 403:
        return "grant the right: deploy/kubernetes/base/rbac.yaml and openshift/rbac.yaml list all that are needed"
    if status == 404:
        return "check that the cluster serves this kind (`kubectl api-resources`)"
    if status in _LATER:
        return "it is tried again at the next pass"
    return "correct what the message names"
