"""What Schemathesis is to know of rustmq's admin API beside its document."""

import schemathesis


@schemathesis.serializer("application/wasm")
def wasm(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def filter_case(context, case):
    """A parameter without a value, and a field that is null, are as if they were left out."""
    query = case.query if isinstance(case.query, dict) else {}
    body = case.body if isinstance(case.body, dict) else {}
    empty = any(value in ("", [], {}) for value in query.values())
    return not empty and None not in body.values()
