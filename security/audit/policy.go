package audit

// Policy says which events are recorded. The zero Policy records none.
type Policy struct {
	classes map[Class]bool
}

// NewPolicy records events of some classes.
func NewPolicy(classes ...Class) Policy {
	p := Policy{map[Class]bool{}}
	for _, c := range classes {
		p.classes[c] = true
	}
	return p
}

// Has reports whether events of a class are recorded.
func (p Policy) Has(c Class) bool { return p.classes[c] }

// Filter returns an event as it is to be told, bounded and printable; false: it is not.
func (p Policy) Filter(e Event) (Event, bool) {
	if !p.Has(e.class()) || e.Outcome < Allowed || e.Outcome > Failed {
		return e, false
	}
	return e.bounded(), true
}

// Empty reports whether nothing is.
func (p Policy) Empty() bool { return len(p.classes) == 0 }
