package audit

import (
	"strings"
	"time"
)

// Filter says which events are wanted. An empty field asks for nothing.
type Filter struct {
	Principal, ResourceType string
	// Action and Resource may end with "*", for all that begin so.
	Action, Resource string
	Outcome          Outcome
	Since, Until     time.Time // of them, the first is included
}

// Wants reports whether r is wanted. What is no event is wanted where nothing is asked for
// that only events have.
func (f *Filter) Wants(r *Record) bool {
	switch {
	case f.Principal != "" && f.Principal != r.Principal && "User:"+f.Principal != r.Principal:
	case !matches(f.Action, r.Action) || !matches(f.Resource, r.Resource):
	case f.ResourceType != "" && f.ResourceType != r.ResourceType:
	case f.Outcome != 0 && f.Outcome != r.Outcome:
	case !f.Since.IsZero() && r.Time.Before(f.Since):
	case !f.Until.IsZero() && !r.Time.Before(f.Until):
	default:
		return true
	}
	return false
}

func matches(pattern, name string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == "" || pattern == name
}
