"""What the Python scripts share: where the simulator is, and a look at its own state. Uses the standard library alone."""

import json
import os
import urllib.request

HTTP = os.environ["SIM_HTTP"]
HTTPS = os.environ["SIM_HTTPS"]
PROXY = os.environ["SIM_PROXY"]


def control(method, path, body=None):
    """Asks the simulator about itself; no part of the vendor's interface."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(HTTP + "/_sim" + path, data=data, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request) as answer:
        return json.load(answer)


def records(name, deleted=False):
    """The simulator's own records, by id."""
    rows = control("GET", f"/records/{name}" + ("?deleted=true" if deleted else ""))
    return {row["Id"]: row for row in rows}


def same(found, expected, what):
    assert found == expected, f"{what}: the client says {found!r}, the simulator has {expected!r}"
