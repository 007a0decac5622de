package configs_test

import (
	"slices"
	"testing"

	"rustmq.dev/rustmq/configs"
)

// TestAuthorizes: by itself where clients prove who they are, in either way.
func TestAuthorizes(t *testing.T) {
	c := configs.Default()
	for _, is := range []struct {
		mode, clientAuth, mechanisms string
		want                         bool
	}{
		{"auto", "none", "", false}, {"auto", "request", "", false}, {"auto", "require", "", true}, {"auto", "none", "SCRAM-SHA-512", true},
		{"on", "none", "", true}, {"off", "require", "SCRAM-SHA-512", false},
	} {
		c.Security.Authorization.Mode, c.Security.TLS.ClientAuth, c.Security.SASL.Mechanisms = is.mode, is.clientAuth, is.mechanisms
		if got := c.Authorizes(); got != is.want {
			t.Errorf("%+v: %t", is, got)
		}
	}
	c.Security.Authorization.SuperUsers = " root; User:CN=operator,O=example;"
	if got := c.Security.Authorization.SuperUserList(); !slices.Equal(got, []string{"root", "User:CN=operator,O=example"}) {
		t.Error(got)
	}
}
