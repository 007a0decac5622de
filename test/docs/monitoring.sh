#!/usr/bin/env bash
# What Prometheus says of deploy/monitoring: its configuration, its alerts, tests of those, and
# every expression of the dashboards.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:$PWD/build/monitoring
command -v promtool >/dev/null || { echo "promtool is not here (scripts/deps.sh)"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
told() { "$@" >"$work/said" 2>&1 || { cat "$work/said"; echo "monitoring: failed: $*"; exit 1; }; }
told promtool check config deploy/monitoring/prometheus.yml
told promtool check rules --lint-fatal deploy/monitoring/alerts.yml
told promtool test rules deploy/monitoring/alerts_test.yml
# As rules, for promtool reads no dashboards; what Grafana fills in is filled in.
python3 - deploy/monitoring/grafana/*.json >"$work/dashboards.yml" <<'PY'
import json, sys
print("groups:")
for path in sys.argv[1:]:
    print(f"- name: {path}\n  rules:")
    n = 0
    for panel in json.load(open(path))["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            n += 1
            print(f"  - record: dashboard:{n}\n    expr: {json.dumps(expr)}")
PY
told promtool check rules "$work/dashboards.yml"
echo "monitoring: $(grep -c 'alert:' deploy/monitoring/alerts.yml) alerts and $(grep -c record: "$work/dashboards.yml") expressions of dashboards"
