"""The page of events, made of the schemas in the OpenAPI document."""

from schemas import Anchors, Schema, described

PAGE = "events.md"
_HEAD = """# Events

The events of a job, in order. `GET /v1/jobs/{job_id}/events` lists them, or streams them as server-sent events with
`Accept: text/event-stream` ([how](../api.md#events)). Each has a number, `seq`, that increases by one, and a `body` whose `type`
is one of those below. New types and fields may be added: ignore those that you do not know.
"""


def page(document: Schema, anchors: Anchors) -> str:
    """The whole page; kinds of events in the order of the code, then what they are made of."""
    schemas = document["components"]["schemas"]
    kinds = [entry["$ref"].rpartition("/")[2] for entry in schemas["JobEvent"]["properties"]["body"]["oneOf"]]
    others = [name for name, _ in anchors.of(PAGE) if name not in kinds]
    parts = [_HEAD, *(described(name, schemas[name], anchors, PAGE) for name in ["JobEvent", *kinds])]
    parts += [described(name, schemas[name], anchors, PAGE) for name in others if name != "JobEvent"]
    return "\n\n".join(parts) + "\n"
