#!/usr/bin/env bash
# Renders the Helm chart in every combination of its values, holds it to Helm's linter, the types of
# Kubernetes and rustmq's own checks, and runs what it renders as processes: three pods, replaced
# one after the other under load, and a fourth. Usage: test/packages/helm.sh BINARY
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")/../../deploy/helm/test"
# A module of its own, and none of the workspace.
GOWORK=off go test -count=1 -vet=off -timeout 10m . -args -rustmq "$binary"
