package roles

import "testing"

// A URL may say who logs in, and by what: the configuration is shown without.
func TestConfigurationIsShownWithoutSecrets(t *testing.T) {
	for value, want := range map[string]string{
		"":                                 "",
		"/var/lib/rustmq":                  "/var/lib/rustmq",
		"File://notes":                     "file://notes",
		"file:///srv/bucket":               "file:///srv/bucket",
		"s3://streams":                     "s3://streams",
		"s3://streams?secret_key=hunter2":  "s3://streams?hidden",
		"s3://AKIA:hunter2@streams/x?a=b":  "s3://hidden@streams/x?hidden",
		"https://user:hunter2@idp/jwks":    "https://hidden@idp/jwks",
		"azblob://hunter2:%zz@c":           "(a URL that cannot be read)",
		"https://idp/jwks#token=hunter2":   "https://idp/jwks",
		"1@10.0.0.1:9094:9095,2@[::1]:1:2": "1@10.0.0.1:9094:9095,2@[::1]:1:2",
	} {
		if got := withoutSecrets(value); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}
