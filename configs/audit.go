package configs

import (
	"slices"
	"strings"
)

// Audit is the account of who did what.
type Audit struct {
	Record         string   `toml:"record" doc:"what is recorded: denied (whatever a client was refused), login (clients that said who they are), admin (administrative acts), data (first use of a topic by each connection; where ACLs decide), comma separated; none; auto: denied, login and admin where clients prove who they are, or ACLs decide, and none elsewhere"`
	OnFull         string   `toml:"on_full" doc:"when nothing can be recorded, for the log is full or its topic has no leader: alert (what could not be is counted, told by /readyz and metrics, and noted in the audit log itself once that is written again) or block (administrative acts and logins by SASL are refused until it can)"`
	RetentionTime  Duration `toml:"retention_time" doc:"how long records are kept, in topic __audit; 0: for ever. The same on every broker"`
	RetentionBytes Size     `toml:"retention_bytes" doc:"how much is kept of them; 0: however much it is. The same on every broker"`
}

// auditClasses are what audit.record may name.
var auditClasses = []string{"denied", "login", "admin", "data"}

// AuditClasses are the kinds of events that are recorded.
func (c *Config) AuditClasses() []string {
	switch record := strings.TrimSpace(c.Security.Audit.Record); {
	case record == "none":
		return nil
	case record != "auto":
		var all []string
		for name := range strings.SplitSeq(record, ",") {
			all = append(all, strings.TrimSpace(name))
		}
		return all
	case c.Authorizes() || c.Authenticates():
		return auditClasses[:3]
	}
	return nil
}

// validateAudit checks section security.audit.
func (c *Config) validateAudit(wrong func(key, format string, args ...any), oneOf func(key, v string, allowed ...string)) {
	for _, name := range c.AuditClasses() {
		if !slices.Contains(auditClasses, name) {
			wrong("security.audit.record", "%.40q is none of %s; or write auto, or none, alone", name, strings.Join(auditClasses, ", "))
		}
	}
	oneOf("security.audit.on_full", c.Security.Audit.OnFull, "alert", "block")
}
