package configs_test

import (
	"slices"
	"testing"

	"rustmq.dev/rustmq/configs"
)

func TestAuthorizes(t *testing.T) {
	c := configs.Default()
	proves, knows := any(c).(interface{ Authenticates() bool })
	if auto := knows && proves.Authenticates(); c.Authorizes() != auto {
		t.Errorf("auto: %t", c.Authorizes())
	}
	for mode, want := range map[string]bool{"on": true, "off": false} {
		if c.Security.Authorization.Mode = mode; c.Authorizes() != want {
			t.Errorf("%s: %t", mode, c.Authorizes())
		}
	}
	c.Security.Authorization.SuperUsers = " root; User:CN=operator,O=example;"
	if got := c.Security.Authorization.SuperUserList(); !slices.Equal(got, []string{"root", "User:CN=operator,O=example"}) {
		t.Error(got)
	}
}
