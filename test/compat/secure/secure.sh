#!/usr/bin/env bash
# Other clients where security is on: by passwords and tokens over TLS, and by rules.
# Usage: secure.sh RUSTMQ BUILD, a program and the directory of clients (scripts/deps.sh).
set -euo pipefail
rustmq=$1 build=$2 here=$(dirname "$0")/..
dir=$(mktemp -d)
python=$build/python/bin/python
base64url() { base64 -w0 | tr '+/' '-_' | tr -d =; }

# An identity provider: a key, its public half, and a token of carol's.
openssl genrsa -out "$dir/key.pem" 2048 2>/dev/null
modulus=$(openssl rsa -in "$dir/key.pem" -noout -modulus | cut -d= -f2 | $python -c 'import binascii, sys; sys.stdout.buffer.write(binascii.unhexlify(input()))' | base64url)
echo "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"k1\",\"use\":\"sig\",\"n\":\"$modulus\",\"e\":\"AQAB\"}]}" >"$dir/keys.json"
claims="{\"iss\":\"https://id.example\",\"aud\":\"rustmq\",\"sub\":\"carol\",\"exp\":$(($(date +%s) + 600))}"
signed=$(printf '{"alg":"RS256","kid":"k1"}' | base64url).$(printf %s "$claims" | base64url)
token=$signed.$(printf %s "$signed" | openssl dgst -sha256 -sign "$dir/key.pem" -binary | base64url)

"$rustmq" serve --ports free --data-dir "$dir/data" --set network.tls=on --set security.sasl.mechanisms=SCRAM-SHA-512,PLAIN,OAUTHBEARER \
	--set security.sasl.oauth.jwks="$dir/keys.json" --set security.sasl.oauth.issuer=https://id.example --set security.sasl.oauth.audience=rustmq \
	>"$dir/line" 2>"$dir/log" &
server=$!
trap 'kill $server 2>/dev/null || :; wait $server 2>/dev/null || :; rm -rf "$dir"' EXIT
for _ in $(seq 600); do [ -s "$dir/line" ] && break; sleep 0.1; done
broker=$(sed -n 's/.*"kafka":"\([^"]*\)".*/\1/p' "$dir/line")
http=$(sed -n 's/.*"http":"\([^"]*\)".*/\1/p' "$dir/line")
[ -n "$broker" ] || { cat "$dir/log"; exit 1; }
admin() { "$rustmq" admin --url "http://$http" "$@" >/dev/null; }
password=$(head -c 12 /dev/urandom | base64url)
(umask 077 && echo "$password" >"$dir/password")
admin users create alice --password-file "$dir/password"
admin topics create secure
admin topics create others
admin acl create --principal alice --resource topic.secure --permissions read,write
admin acl create --principal alice --resource 'group.secure-*' --permissions read
admin acl create --principal carol --resource topic.secure --resource 'group.secure-*' --permissions read
admin quotas set --user alice --client-id held producer_byte_rate=2000
admin quotas set --user alice producer_byte_rate=2500
admin quotas set --default-client-id producer_byte_rate=3000

$python "$here/python/secure.py" "$broker" "$dir/data/certs/ca.pem" "$password" "$token" || { cat "$dir/log"; exit 1; }
admin quotas set --user alice --delete producer_byte_rate
admin quotas set --default-client-id --delete producer_byte_rate
mkdir -p "$build/java/classes"
javac -cp "$build/java/lib/*" -d "$build/java/classes" "$here/java/Secure.java"
java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$build/java/classes:$build/java/lib/*" Secure "$broker" "$dir/data/certs/ca.pem" "$password" || { cat "$dir/log"; exit 1; }
