#!/usr/bin/env bash
# Schemathesis (PyPI) reads the document of the admin API from a node that has some of
# everything, and calls each of its operations with what the document allows and what it does
# not: no answer of 500, none that the document does not describe, nothing served that is no
# request, nothing to who has not said who it is.
# Usage: test/api/api.sh RUSTMQ SCHEMATHESIS
set -euo pipefail
rustmq=$(realpath "$1") st=$(realpath -s "$2")
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
server=''
ended() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || :
	wait 2>/dev/null || :
	rm -rf "$dir"
}
trap ended EXIT
"$rustmq" serve --ports free --data-dir "$dir/data" --set security.rest.authentication=on \
	--set security.rest.requests=100000 --set security.rest.requests_per_ip=100000 >"$dir/line" 2>"$dir/log" &
server=$!
for _ in $(seq 600); do [ -s "$dir/line" ] && break; sleep 0.1; done
kafka=$(sed -n 's/.*"kafka":"\([^"]*\)".*/\1/p' "$dir/line") http=http://$(sed -n 's/.*"http":"\([^"]*\)".*/\1/p' "$dir/line")
[ "$http" != http:// ] || { cat "$dir/log"; exit 1; }
token=$dir/data/admin.token
admin() { "$rustmq" admin --url "$http" --token-file "$token" "$@" >/dev/null; }
admin topics create 0 -p 2
admin topics create orders -p 3
seq 100 | "$rustmq" produce orders -b "$kafka" >/dev/null
"$rustmq" consume orders -b "$kafka" -g 0 -n 100 >/dev/null
echo open-sesame | admin users create 0
admin acl create --principal 0 --resource 'topic.events.*' --permissions read,write --effect allow
admin quotas set --user 0 producer_byte_rate=10MiB
curl -sf -H "Authorization: Bearer $(cat "$token")" "$http/api/v1/openapi.json" >"$dir/openapi.json"
python3 "$here/strangers.py" "$http" "$dir/openapi.json"
cd "$dir" # it writes what it finds to where it runs
# It waits for the end of answers, which streams do not have.
SCHEMATHESIS_HOOKS=$here/hooks.py "$st" --config-file "$here/schemathesis.toml" run "$http/api/v1/openapi.json" \
	--exclude-path-regex '/(events|stream|tail)$' \
	-H "Authorization: Bearer $(cat "$token")" --seed "${TEST_SEED:-1}" --no-color >"$dir/said" 2>&1 || {
	cat "$dir/said"
	exit 1
}
sed -n '/SUMMARY/,$p' "$dir/said" | grep -E 'Selected|Tested|generated' | sed 's/^ */api: /'
# It is as well as before, and has said nothing of a fault of its own.
admin cluster health || :
curl -sf "$http/readyz" >/dev/null
if grep -E '"level":"ERROR"|panic' "$dir/log"; then exit 1; fi
