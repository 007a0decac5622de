package bundle

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

const pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIPlanted+one\nPlanted/two==\n-----END EC PRIVATE KEY-----"

// TestSecretsAreTakenOut plants secrets in the forms that they come in: of none is a part left.
func TestSecretsAreTakenOut(t *testing.T) {
	r := NewRedactor("known text of a file\n", "short", "known text of a file that is longer")
	for _, text := range []string{
		pem,
		strings.ReplaceAll(pem, "\n", `\n`), // in JSON
		pem[:60],                            // cut off
		`{"password": "Planted"}`,
		`{"sasl_password":"Pla\"nted"}`,
		`{"key":"object_storage.secret_access_key","x":1,"secret_access_key":"Planted"}`,
		`{"key":"security.sasl.shared_secret","value":"Planted","origin":"--set"}`,
		"password = \"Planted\"\n",
		"password = Planted\n",
		"  token: Planted\n",
		"RUSTMQ_CA_PASSPHRASE=Planted\n",
		"AWS_SECRET_ACCESS_KEY=Planted/x+y\n",
		`level=INFO msg="logged in" token=Planted user=alice`,
		`{"msg":"dial","url":"https://alice:Planted@host/x"}`,
		`level=INFO msg=clone url=https://Planted@host/x`,
		`{"remote":"https://Planted%2F@host:8443"}`,
		"s3://bucket?region=eu&secret_key=Planted&x=1",
		"https://store/x?X-Amz-Signature=Planted&X-Amz-Credential=Planted%2F2026&a=b",
		"https://acc.blob.core.windows.net/c?sv=2020&sig=Planted%3D",
		"DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Planted+/==;EndpointSuffix=core",
		"Authorization: Bearer Planted.token-of_many~letters",
		"authorization: Basic UGxhbnRlZDpQbGFudGVk Planted"[:41],
		"the caller showed rmq_PlantedPlantedPlantedPlantedPlanted1",
		"jwt eyJhbGciOiJub25lPlanted.eyJzdWIiOiJhbGljZSJ9Planted.Planted-sig",
		"key AKIAPLANTEDPLANTED99 was refused",
		`{"msg":"{\"password\":\"Planted\"}"}`, // JSON in JSON
		`sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="alice" password="Planted";`,
		`x-api-key: Planted`, `{"access-key":"Planted"}`,
		"see known text of a file that is longer, and known text of a file.",
		`{"stored_key":"UGxhbnRlZA==","salt":"UGxhbnRlZA==","server_key":"UGxhbnRlZA=="}`,
	} {
		clean, removed := r.Redact([]byte(text))
		got := string(clean)
		for _, left := range []string{"Planted", "PLANTED", "UGxhbnRlZ", "known text"} {
			if strings.Contains(got, left) {
				t.Errorf("%q is left in %q, of %q", left, got, text)
			}
		}
		if removed == 0 || !strings.Contains(got, Mask) {
			t.Errorf("%d removed of %q: %q", removed, text, got)
		}
		if again, n := r.Redact(clean); n != 0 || string(again) != got {
			t.Errorf("a second time %d more are removed of %q: %q", n, got, again)
		}
	}
}

// TestKnownSecretsAreTakenOutAsTheyAreWritten by what writes texts into logs and answers, which
// escapes some characters.
func TestKnownSecretsAreTakenOutAsTheyAreWritten(t *testing.T) {
	const secret = `Planted<&>"in\a file+%`
	r := NewRedactor(secret)
	short, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	var plain strings.Builder
	as := json.NewEncoder(&plain)
	as.SetEscapeHTML(false)
	if err := as.Encode(secret); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{secret, string(short), plain.String(), strconv.Quote(secret), "/x?y=" + url.QueryEscape(secret), "/" + url.PathEscape(secret)} {
		if clean, removed := r.Redact([]byte("said " + text)); removed != 1 || strings.Contains(string(clean), "Planted") {
			t.Errorf("%d removed of %q: %q", removed, text, clean)
		}
	}
}

// TestWhatIsNoSecretStays, or a bundle would be of no use.
func TestWhatIsNoSecretStays(t *testing.T) {
	r := NewRedactor("abc") // too short to be one
	for _, text := range []string{
		"", "abc",
		`{"topic":"orders","partition":3,"high_watermark":4711}`,
		`{"key":"network.kafka_port","value":"9092","origin":"default"}`,
		`{"password_file":"/etc/rustmq/password","key_file":"/etc/x.key","token_url":"https://idp/x"}`,
		"security.tls.key_file = \"/etc/rustmq/node-1.key\"\n",
		`rustmq_tokens_total{kind="bearer"} 4`,
		`rustmq_sasl_logins_total{mechanism="SCRAM-SHA-512",ok="true"} 12345678`,
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
		"file:///var/lib/rustmq/bucket",
		"s3://streams?region=eu-central-1",
		`{"authorization":"on","super_users":"User:admin"}`,
		"goroutine 1 [running]:\nrustmq.dev/rustmq/security/sasl.ReadPassword(0xc0000)\n\t/x/y.go:12 +0x1d\n",
		"a bearer of bad news",
		`{"key":"broker.groups.consumer_assignors","value":"uniform,range"}`, "assigned = eleven", "design: as it is",
	} {
		if clean, removed := r.Redact([]byte(text)); removed != 0 || string(clean) != text {
			t.Errorf("%d removed of %q: %q", removed, text, clean)
		}
	}
}
