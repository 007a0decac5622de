"""What Schemathesis is to know of rustmq's admin API beside its document."""

import schemathesis


@schemathesis.serializer("application/wasm")
def wasm(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def filter_case(context, case):
    """A parameter without a value, and a field that is null, are as if they were left out; of
    several values of a parameter that takes one, the first counts."""
    query = case.query if isinstance(case.query, dict) else {}
    body = case.body if isinstance(case.body, dict) else {}
    several = any(isinstance(value, list) for name, value in query.items() if name != "head")
    return not several and "" not in query.values() and None not in body.values()
