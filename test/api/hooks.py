"""What Schemathesis is to know of rustmq's admin API beside its document."""

import schemathesis


@schemathesis.serializer("application/wasm")
def wasm(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def filter_case(context, case):
    """A field that is null is as if it was left out."""
    body = case.body if isinstance(case.body, dict) else {}
    return None not in body.values()
