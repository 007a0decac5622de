package configs

import "strings"

// SuperUserList is SuperUsers, one by one.
func (a Authorization) SuperUserList() []string {
	var all []string
	for name := range strings.SplitSeq(a.SuperUsers, ";") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// Authorizes reports whether clients of Kafka may do only what ACLs allow them.
func (c *Config) Authorizes() bool {
	switch c.Security.Authorization.Mode {
	case "on":
		return true
	case "off":
		return false
	}
	return c.Authenticates()
}

// maxSuperUsers and maxPrincipal bound what is looked at for each connection.
const (
	maxSuperUsers = 1000
	maxPrincipal  = 1 << 10
)

// validateAuthorization checks section security.authorization.
func (c *Config) validateAuthorization(wrong func(key, format string, args ...any), oneOf func(key, v string, allowed ...string)) {
	oneOf("security.authorization.mode", c.Security.Authorization.Mode, "auto", "on", "off")
	all := c.Security.Authorization.SuperUserList()
	if len(all) > maxSuperUsers {
		wrong("security.authorization.super_users", "%d users: at most %d", len(all), maxSuperUsers)
	}
	for _, name := range all {
		switch bare := strings.TrimPrefix(name, "User:"); {
		case bare == "*":
			wrong("security.authorization.super_users", "%q would be everybody: set security.authorization.mode = off instead", name)
		case bare == "" || len(name) > maxPrincipal:
			wrong("security.authorization.super_users", "%.100q is no name of a user", name)
		}
	}
}
